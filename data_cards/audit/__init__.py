"""Shortcut audit: how well trivial properties alone separate the classes."""
