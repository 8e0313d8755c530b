"""Worker processes that start without the caller's script."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def main_module_hidden() -> Iterator[None]:
    """Let processes that are spawned in the block start without importing the main module.

    `multiprocessing` imports the main module in each spawned process. A script that calls this package without
    `if __name__ == "__main__":` would run a second time there. The workers need only functions of this package.
    """
    main = sys.modules["__main__"]
    hidden = {name: main.__dict__[name] for name in ("__file__", "__spec__") if name in main.__dict__}
    main.__dict__.pop("__file__", None)
    main.__spec__ = None
    try:
        yield
    finally:
        main.__dict__.update(hidden)
