"""The figures of one run, or of several, as page, terminal text, JSON and plots."""
