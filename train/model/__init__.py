"""Profiles and levels to calibrated probabilities, on one device or several."""
