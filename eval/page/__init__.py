"""Local web page with the verdicts of `eval predict` on dropped pictures."""
