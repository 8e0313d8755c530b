"""Scored rows to figures with intervals, as plain values."""
