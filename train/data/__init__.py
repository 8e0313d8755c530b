"""Rows of a store to batches: which rows, in which order, and how they are read."""
