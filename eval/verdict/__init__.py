"""Verdicts on files: inputs, crops, checks, declared metadata, clips, plots."""
