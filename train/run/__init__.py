"""Run folder: write each file atomically and read it back; list and export runs."""
