"""Defaults of the commands' options. Imports nothing, so that `--help` need not wait for PyTorch."""

# Of `eval report`.
HELD_OUT = "held-out"  # in place of a split: the sources that a run left out
REPORT_BATCH_SIZE = 32
THREADS = 4  # that read the store
SWAP_PICTURES = 200  # at most, for the JPEG-swap test
EXPLAIN_PICTURES = 40  # at most, on which it is measured which frequencies decide

# Of `eval predict`.
BATCH_SIZE = 16  # samples that the network scores at a time
FRAMES = 8  # of a clip that are judged

# Of `eval page`.
HOST, PORT = "127.0.0.1", 8123
