"""Report on one run, or comparison of several, as HTML page, terminal text, JSON and plots."""
