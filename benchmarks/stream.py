"""Reading speed of the trainer's reader and of other readers on one store, as a share of the limit.

    python benchmarks/stream.py --size 512 --rows 96
    python benchmarks/stream.py --size 512 --rows 96 --cold --threads 4

- The limit is pread and decoding of the same bytes alone, on all cores, into one buffer of a chunk for each core. A
  second limit decodes into buffers of three batches, as readers do, which do not fit into the processor's cache.
- Three rows read a second store, packed as `pipeline build` packs it: its own limit, decoded and mirrored on the CPU,
  and left packed for a GPU.
- With --cold, `dd` also reads the shard files of both stores. Its speed is given in decoded bytes, so that it compares
  with the other rows. Threads that wait for the disk do not decode, so use more threads with --cold.

Rounds of all readers alternate, so that other load affects all of them. Medians and ranges are in MB/s of decoded
features. A reader that is not installed is skipped, with a message. zstd compresses the drawn levels about as well as
real spectra.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
import zarr
from numcodecs.zstd import Zstd

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "tests")]
from helpers.make_store import make_store  # noqa: E402

from data_cards.core.cores import count_cores  # noqa: E402
from pipeline.features.settings import PLANES_PER_KIND, SQUARE_KINDS, FeatureSettings, plane_slice  # noqa: E402
from pipeline.features.symmetry import fill_mirror_images  # noqa: E402
from pipeline.store.filesystem import Storage  # noqa: E402
from pipeline.store.reader import FeatureStore, open_store  # noqa: E402
from pipeline.store.schema import FEATURES  # noqa: E402
from pipeline.store.settings import BuildSettings  # noqa: E402
from pipeline.store.shard_format import (  # noqa: E402
    decode_index,
    encode_sample,
    encode_shard,
    index_length,
    shard_file,
)
from pipeline.store.writer import create_arrays  # noqa: E402
from train.data.loader import BatchLoader  # noqa: E402
from train.data.sampling import sample_epoch  # noqa: E402

THREADS = count_cores()
KINDS = len(SQUARE_KINDS)
MAGNITUDE, PHASE = (plane_slice(SQUARE_KINDS.index(kind)) for kind in ("magnitude", "phase"))


def create_store(folder: Path, size: int, rows: int, shard: int, packing: str = "none") -> FeatureStore:
    """Create a store of about `rows` rows whose features compress as real ones do; mirrored where it is packed.

    That is magnitude and DCT to about 0.75, and phase, whose steps are all as likely, not at all.
    """
    half = max(rows // 4, 2)
    pictures = {"train": (rows // 2 - half // 2, rows // 2 - half // 2), "val": (half // 2, half // 2)}
    path = make_store(folder / f"{packing}.zarr", pictures=pictures, size=size, shard=shard)
    shutil.rmtree(path / FEATURES)
    rng = np.random.default_rng(0)
    count, planes = len(read_labels(path)), PLANES_PER_KIND * KINDS
    settings = BuildSettings(FeatureSettings(size=size), packing=packing)
    create_arrays(Storage(path), count, shard, settings, [FEATURES])
    for start in range(0, count, shard):
        stop = min(start + shard, count)
        levels = np.clip(rng.normal(128, 14, (stop - start, planes, size, size)), 0, 255).astype(np.uint8)
        levels[:, PHASE] = rng.integers(0, 256, (stop - start, PLANES_PER_KIND, size, size), dtype=np.uint8)
        if packing == "mirror":
            fill_mirror_images(levels[:, MAGNITUDE], odd=False)
            levels[:, PHASE, [0, 0, size // 2, size // 2], [0, size // 2, 0, size // 2]] = 0
            fill_mirror_images(levels[:, PHASE], odd=True)
        chunks = [chunk for sample in levels for chunk in encode_sample(sample, packing)]
        file = path / shard_file(start // shard)
        file.parent.mkdir(parents=True)
        file.write_bytes(b"".join(encode_shard(chunks, KINDS * shard)))
    return open_store(path)


def read_labels(path: Path) -> np.ndarray:
    """Read the labels of a store's rows."""
    return zarr.open_array(path / "label", mode="r")[:]


def create_readers(
    store: FeatureStore, packed: FeatureStore, batches: list[np.ndarray], folder: Path, threads: int
) -> dict[str, Callable[[], None]]:
    """Return functions, by name, that each read all batches once."""
    features = store.features

    def ours(store: FeatureStore, packed: bool = False) -> Callable[[], None]:
        reader = BatchLoader(store, threads=threads, packed=packed)  # one for all epochs, as training has it

        def read() -> None:
            for _ in reader.read(batches):
                pass

        return read

    def one_at_a_time() -> None:
        for rows in batches:
            for row in rows:
                features[int(row)]

    def in_batches() -> None:
        for rows in batches[:1]:  # one batch suffices: this reader is slow
            features.oindex[np.sort(rows)]

    readers = {
        "limit": create_limit(store, batches),
        "limit, to batches": create_limit(store, batches, 3 * len(batches[0])),
        "limit, packed": create_limit(packed, batches, 3 * len(batches[0])),
        "this reader": ours(store),
        "packed, mirrored": ours(packed),
        "packed, as it is": ours(packed, packed=True),
        "zarr, one a time": one_at_a_time,
        "zarr, batches": in_batches,
    }
    litdata = create_litdata(store, batches, folder / "litdata")
    if litdata is not None:
        readers["litdata, zstd"] = litdata
    try:
        import tensorstore
    except ImportError:
        print("tensorstore is not installed: left out")
        return readers
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{store.path}/{FEATURES}"}}
    opened = tensorstore.open(spec, read=True).result()

    def with_tensorstore() -> None:
        ahead = [opened[np.sort(rows)].read() for rows in batches[:3]]
        for number in range(len(batches)):
            ahead.pop(0).result()
            if number + 3 < len(batches):
                ahead.append(opened[np.sort(batches[number + 3])].read())

    return {**readers, "tensorstore": with_tensorstore}


def create_limit(store: FeatureStore, batches: list[np.ndarray], room: int = 0) -> Callable[[], None]:
    """Return a function that only preads and decodes the chunks of the batches, whose offsets are read before.

    room : rows of each buffer, used in turn; 0 means one chunk for each thread.
    """
    shard_rows = store.features.shards[0]
    capacity = KINDS * shard_rows
    chunk_bytes = int(np.prod(store.features.chunks)) + 1  # packed ones have a header
    where = []
    for row in np.concatenate(batches).tolist():
        file = f"{store.path}/{shard_file(row // shard_rows)}"
        index = decode_index(Path(file).read_bytes()[-index_length(capacity) :], capacity)
        where.append((file, index.reshape(-1, KINDS, 2)[row % shard_rows].tolist()))
    buffers = np.zeros((room, KINDS, chunk_bytes), dtype=np.uint8)
    # They stay open until the program's end.
    descriptors = {file: os.open(file, os.O_RDONLY) for file in {file for file, _ in where}}

    def read_share(number: int) -> None:
        buffer, decoder = np.empty(chunk_bytes, dtype=np.uint8), Zstd()
        for row, (file, chunks) in list(enumerate(where))[number::THREADS]:
            for kind, (offset, length) in enumerate(chunks):
                target = buffers[row % room, kind] if room else buffer
                decoder.decode(os.pread(descriptors[file], length, offset), target)

    def limit() -> None:
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(read_share, range(THREADS)))

    return limit


def create_litdata(store: FeatureStore, batches: list[np.ndarray], folder: Path) -> Callable[[], None] | None:
    """Return a reader by litdata with zstd, its workers started before; None, with a line, without litdata."""
    try:
        import litdata
        import zstd  # noqa: F401 - litdata's codec
    except ImportError:
        # Its package asks for torchvision and the newest PyTorch, so it is no dependency, not even for development.
        print("litdata or zstd is not installed: left out (`pip install --no-deps litdata` and `pip install zstd`)")
        return None
    shape = store.features.shape[1:]
    fetch = partial(_fetch_bytes, store.path)
    read = np.concatenate(batches)
    count = len(np.unique(read))
    litdata.optimize(
        fetch, list(range(count)), str(folder), chunk_bytes="64MB", compression="zstd", num_workers=1, verbose=False
    )
    loader = litdata.StreamingDataLoader(
        litdata.StreamingDataset(str(folder), shuffle=True),
        batch_size=len(batches[0]),
        num_workers=THREADS,
        collate_fn=partial(_stack_bytes, shape),
        persistent_workers=True,
    )

    def with_litdata() -> None:
        for _ in range(len(read) // count):
            for _ in loader:
                pass

    return with_litdata


def _fetch_bytes(path: str, row: int) -> bytes:
    return open_store(path).features[row].tobytes()


def _stack_bytes(shape: tuple[int, ...], items: list[bytes]) -> torch.Tensor:
    stacked = torch.empty((len(items), *shape), dtype=torch.uint8)
    for place, item in zip(stacked.numpy(), items, strict=True):
        place[...] = np.frombuffer(item, dtype=np.uint8).reshape(shape)
    return stacked


def read_with_dd(store: FeatureStore) -> None:
    """Read all shards' files with `dd`."""
    for file in _shard_files(store):
        subprocess.run(["dd", f"if={file}", "of=/dev/null", "bs=4M"], check=True, stderr=subprocess.DEVNULL)


def _shard_files(store: FeatureStore) -> list[Path]:
    return sorted(file for file in Path(store.path, FEATURES).rglob("0") if file.is_file())


def drop_cache(folder: Path) -> None:
    """Ask the system to forget all files of a folder; it does so for pages that are written out."""
    for file in (file for file in folder.rglob("*") if file.is_file()):
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
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each reader")
    parser.add_argument(
        "--threads", type=int, default=THREADS, help="threads of this reader; as many as cores, or more with --cold"
    )
    parser.add_argument("--epochs", type=int, default=4, help="epochs of a round; 1 with --cold")
    parser.add_argument("--cold", action="store_true", help="empty the file cache before every round")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = create_store(Path(folder), arguments.size, arguments.rows, arguments.shard)
        packed = create_store(Path(folder), arguments.size, arguments.rows, arguments.shard, "mirror")
        rows = np.arange(len(store))
        order = sample_epoch(rows, rows, 0, 1)
        batches = [order[start : start + arguments.batch] for start in range(0, len(order), arguments.batch)]
        batches *= 1 if arguments.cold else arguments.epochs
        readers = create_readers(store, packed, batches, Path(folder), arguments.threads)
        if arguments.cold:
            readers |= {"dd": partial(read_with_dd, store), "dd, packed": partial(read_with_dd, packed)}
        speeds: dict[str, list[float]] = {name: [] for name in readers}
        for number in range(arguments.rounds + 1):
            for name, read in readers.items():
                if arguments.cold:
                    drop_cache(Path(folder))
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
