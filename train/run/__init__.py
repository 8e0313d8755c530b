"""The run folder: each of its files, written whole and read back; list and export."""
