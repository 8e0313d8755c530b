"""Sets of pictures and where they came from: scan, hash, split, audit, card; and what all packages share."""
