"""Rows of a store to batches: choose, order and read them."""
