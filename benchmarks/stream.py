"""Reading speed of the trainer's reader beside others, on one store, and the share of the limit that it reaches.

    python benchmarks/stream.py --size 512 --rows 96

The limit is bare: pread and decode of the same bytes, on all cores, into buffers that are there.
Rounds of all readers alternate, so that a busy minute hits them all; medians and the spread of the
rounds are printed, in MB/s of decoded features. Readers that are not installed are left out with a line.
Levels are drawn so that zstd makes of them about what it makes of real spectra.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import zarr
from numcodecs.zstd import Zstd

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "tests")]
from make_store import make_store  # noqa: E402

from pipeline.sharding import chunk_codecs  # noqa: E402
from pipeline.store import FeatureStore, open_store  # noqa: E402
from train.batches import read_batches  # noqa: E402

THREADS = os.cpu_count() or 1


def make_features(folder: Path, size: int, rows: int, shard: int) -> FeatureStore:
    """A store of so many rows whose features compress to about 0.75, as real ones do; without packing."""
    half = max(rows // 4, 2)
    pictures = {"train": (rows // 2 - half // 2, rows // 2 - half // 2), "val": (half // 2, half // 2)}
    path = make_store(folder / "features.zarr", pictures=pictures, size=8, shard=shard)
    shutil.rmtree(path / "features")
    rng = np.random.default_rng(0)
    serializer, compressor = chunk_codecs("none")
    count = len(open_columns(path))
    features = zarr.create_array(
        path / "features",
        shape=(count, 9, size, size),
        dtype="uint8",
        chunks=(1, 3, size, size),
        shards=(shard, 9, size, size),
        serializer=serializer,
        compressors=compressor,
        config={"write_empty_chunks": True},
    )
    for start in range(0, count, shard):
        stop = min(start + shard, count)
        features[start:stop] = np.clip(rng.normal(128, 14, (stop - start, 9, size, size)), 0, 255).astype(np.uint8)
    return open_store(path)


def open_columns(path: Path) -> np.ndarray:
    """The labels of a store's rows."""
    return zarr.open_array(path / "label", mode="r")[:]


def make_readers(store: FeatureStore, batches: list[np.ndarray]) -> dict[str, Callable[[], None]]:
    """Each reads all batches once."""
    features = store.features

    def ours() -> None:
        for _ in read_batches(store, batches, threads=THREADS):
            pass

    def one_at_a_time() -> None:
        for rows in batches:
            for row in rows:
                features[int(row)]

    def in_batches() -> None:
        for rows in batches[:1]:  # so slow that one batch tells
            features.oindex[np.sort(rows)]

    readers = {
        "limit": make_limit(store, batches),
        "this reader": ours,
        "zarr, one a time": one_at_a_time,
        "zarr, batches": in_batches,
    }
    try:
        import tensorstore
    except ImportError:
        print("tensorstore is not installed: left out")
        return readers
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{store.path}/features"}}
    opened = tensorstore.open(spec, read=True).result()

    def with_tensorstore() -> None:
        ahead = [opened[np.sort(rows)].read() for rows in batches[:3]]
        for number in range(len(batches)):
            ahead.pop(0).result()
            if number + 3 < len(batches):
                ahead.append(opened[np.sort(batches[number + 3])].read())

    return {**readers, "tensorstore": with_tensorstore}


def make_limit(store: FeatureStore, batches: list[np.ndarray]) -> Callable[[], None]:
    """Bare pread and decode of the chunks that the batches need; where they are is found out before."""
    shard_rows = store.features.shards[0]
    chunk_bytes = int(np.prod(store.features.chunks))
    where = []
    for row in np.concatenate(batches).tolist():
        file = f"{store.path}/features/c/{row // shard_rows}/0/0/0"
        data = Path(file).read_bytes()[-4 - 48 * shard_rows : -4]
        where.append((file, np.frombuffer(data, "<u8").reshape(-1, 3, 2)[row % shard_rows].tolist()))
    descriptors = {file: os.open(file, os.O_RDONLY) for file, _ in where}  # stay open until the program's end

    def read_share(number: int) -> None:
        buffer, decoder = np.empty(chunk_bytes, dtype=np.uint8), Zstd()
        for file, chunks in where[number::THREADS]:
            for offset, length in chunks:
                decoder.decode(os.pread(descriptors[file], length, offset), buffer)

    def limit() -> None:
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(read_share, range(THREADS)))

    return limit


def drop_cache(store: FeatureStore) -> None:
    """Ask the system to forget the store's files; it does so for pages that are written out."""
    for file in (Path(store.path) / "features" / "c").rglob("0"):
        if file.is_file():
            descriptor = os.open(file, os.O_RDONLY)
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512, help="pixels a side")
    parser.add_argument("--rows", type=int, default=96, help="samples in the store")
    parser.add_argument("--shard", type=int, default=16, help="samples a shard")
    parser.add_argument("--batch", type=int, default=16, help="samples a batch")
    parser.add_argument("--rounds", type=int, default=5, help="times that each reader reads all")
    parser.add_argument("--cold", action="store_true", help="with the file cache emptied before every round")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = make_features(Path(folder), arguments.size, arguments.rows, arguments.shard)
        order = np.random.default_rng(0).permutation(len(store))
        batches = [order[start : start + arguments.batch] for start in range(0, len(order), arguments.batch)]
        readers = make_readers(store, batches)
        speeds: dict[str, list[float]] = {name: [] for name in readers}
        for number in range(arguments.rounds + 1):
            for name, read in readers.items():
                if arguments.cold:
                    drop_cache(store)
                begun = time.perf_counter()
                read()
                samples = sum(map(len, batches[:1] if name == "zarr, batches" else batches))
                megabytes = samples * np.prod(store.features.shape[1:]) / 1e6
                if number:  # the first round warms up
                    speeds[name].append(megabytes / (time.perf_counter() - begun))
    limit = statistics.median(speeds["limit"])
    print(f"{arguments.size} px, {len(order)} samples, {THREADS} threads, cache {'cold' if arguments.cold else 'warm'}")
    for name, values in speeds.items():
        middle = statistics.median(values)
        print(
            f"{name:18} {middle:8,.0f} MB/s  ({min(values):,.0f} to {max(values):,.0f})  {middle / limit:.2f} of limit"
        )


if __name__ == "__main__":
    main()
