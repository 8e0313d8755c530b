"""Explanations: what each frequency, plane and expert contributes to a score."""
