"""Damage done to a store's files, for tests of what notices and mends it."""

from pathlib import Path

from pipeline.store import shard_format as sharding


def shard_file(store: Path, shard: int) -> Path:
    """The file of a shard."""
    return store / sharding.shard_file(shard)


def flip_bit(path: Path, bit: int) -> None:
    """Flip one bit of a file, counted from its beginning."""
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)
