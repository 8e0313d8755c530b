"""A page on this computer that says of dropped pictures what `eval predict` says."""
