"""Scores with intervals, computed from scored rows, as JSON values."""
