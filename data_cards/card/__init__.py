"""The data card: its contents, its files, the difference between two."""
