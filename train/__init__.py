"""Feature store to trained run: batches, normalising, network, loop, run folder."""
