"""Inspect, plot, verify and repair a store."""
