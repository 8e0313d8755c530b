"""Evaluation of a trained run: scores with intervals, report, verdicts on files."""
