"""Many pictures: find, scan, cache, tabulate and split them; leakage across splits; who made them."""
