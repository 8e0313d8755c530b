"""Explanations: the frequencies and planes that a score rests on."""
