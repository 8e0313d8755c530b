"""Levels to calibrated probabilities, on one device or several."""
