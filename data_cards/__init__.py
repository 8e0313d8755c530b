"""What a set of pictures is and where it came from: scan, decode, hashes, splits, baselines."""
