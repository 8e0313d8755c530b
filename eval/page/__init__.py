"""Local web page with the verdicts of `predict` on dropped pictures."""
