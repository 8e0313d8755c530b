"""Frequencies and planes on which a score rests."""
