"""Many pictures: find, scan, cache, tabulate and split them; near-duplicates; who made them."""
