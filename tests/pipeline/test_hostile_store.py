"""Stores that mean harm: every command ends in one line and little memory, and nothing of them is executed."""

import gzip
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr
from click.testing import CliRunner
from helpers.fuzz import change_document
from helpers.hostile import bounded_memory, deep_json, edit_json, zstd_bomb
from helpers.make_store import make_store
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numcodecs.zstd import Zstd

from data_cards.core.errors import StoreError, UserError
from pipeline.builder.card import write_card
from pipeline.builder.resume import read_base
from pipeline.cli.main import main
from pipeline.maintenance.verify import verify_store
from pipeline.store.digests import add_digests
from pipeline.store.filesystem import Storage
from pipeline.store.manifest import encode_manifest, write_manifest
from pipeline.store.reader import open_store
from pipeline.store.schema import SAMPLE_COLUMNS
from pipeline.store.writer import read_checksums, read_shard_records, write_attributes

MEMORY = 100 * 2**20
CHUNK = 2**16  # rows of a chunk of a column


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    return make_store(tmp_path_factory.mktemp("sound") / "a.zarr")


@pytest.fixture
def path(sound, tmp_path) -> Path:
    return shutil.copytree(sound, tmp_path / "a.zarr")


def read_all(path: Path) -> None:
    store = open_store(path)
    assert store.card
    assert store.mean.shape == store.std.shape
    assert len(store.read_pictures())
    assert store.features[0].any()


def expect_one_line(path: Path) -> None:
    """Every command that reads a store ends without a traceback, and if it fails in one line."""
    for command in ("inspect", "verify"):
        result = CliRunner().invoke(main, [command, str(path)])
        assert type(result.exception) in (SystemExit, type(None)), (command, result.exception)
        lines = [line for line in result.stderr.splitlines() if not line.startswith("warning: ")]
        assert len(lines) == bool(result.exit_code), (command, result.stderr)
    for read in (read_base, read_shard_records):  # as a build does that would add to it
        expect_one_line_of(read, Storage(path))


def expect_one_line_of(act: Callable, *arguments: object) -> None:
    """An action that may fail does so in one line."""
    lines = []
    try:
        act(*arguments)
    except UserError as error:
        lines = str(error).splitlines()
    assert len(lines) <= 1, lines


def compress(data: bytes) -> bytes:
    return Zstd(level=1, checksum=True).encode(data)


BOMBS = {
    "number": ("label/c/0", zstd_bomb(2**30)),
    "number that declares what is right": ("label/c/0", zstd_bomb(2**30, declared=CHUNK)),
    "number that declares nothing": ("label/c/0", zstd_bomb(2**30, says_size=False)),
    "text": ("split/c/0", zstd_bomb(2**30)),
    "text of many": ("split/c/0", compress((2**32 - 1).to_bytes(4, "little") + bytes(100))),
    "text of the right many that are long": ("image/c/0", compress(CHUNK.to_bytes(4, "little") + bytes(2**26))),
    "card": ("card/c/0", zstd_bomb(2**30)),
    "statistics": ("statistics/mean/c/0/0/0", zstd_bomb(2**30)),
    "provenance": ("provenance/c/0", zstd_bomb(2**30)),
    "two frames": ("label/c/0", 2 * compress(bytes(CHUNK))),
}


@pytest.mark.parametrize("name", BOMBS)
def test_chunk_that_unpacks_to_more_than_its_array_is_refused_before(path, name):
    file, data = BOMBS[name]
    assert len(data) < 2**16
    (path / file).write_bytes(data)
    with bounded_memory(MEMORY), pytest.raises(StoreError, match=r"is damaged \(.*"):
        read_all(path)
    expect_one_line(path)


@pytest.mark.parametrize(
    "change",
    [
        {"pictures": "many"},
        {"splits": None},
        {"sources": [1]},
        {"sources": [{}]},
        {"sources": [{"class": "real", "source": "a", "provenance": {"name": 1}}]},
        {"selections": [1]},
        {"audit": {}},
        {"audit": {"words": 1}},
        {"limits": 1},
    ],
)
def test_card_without_the_parts_that_readers_use_is_refused(path, change):
    write_card(zarr.open_group(path, mode="r+"), open_store(path).card | change)
    with pytest.raises(StoreError, match=r"damaged \(card: "):
        _ = open_store(path).card
    expect_one_line(path)


def test_store_without_rows_is_refused(path):
    group = zarr.open_group(path, mode="r+")
    for name in ("features", "profiles", *SAMPLE_COLUMNS):
        group[name].resize((0, *group[name].shape[1:]))
    with pytest.raises(StoreError, match=r"damaged \(columns: label: no rows; expected 1 or more"):
        open_store(path)
    expect_one_line(path)


def test_chunk_of_features_that_unpacks_to_more_is_refused_before(path):
    shard = path / "features/c/0/0/0/0"
    data = shard.read_bytes()
    index = np.frombuffer(data[-4 - 16 * 24 : -4], "<u8").reshape(24, 2).copy()
    bomb = zstd_bomb(2**30)
    index[0] = 0, len(bomb)
    from pipeline.store.shard_format import _checksum

    shard.write_bytes(bomb + index.tobytes() + _checksum(index.tobytes()))
    with bounded_memory(MEMORY), pytest.raises(ValueError, match="expected at most"):
        open_store(path).features[0]
    expect_one_line(path)


@pytest.mark.parametrize(
    "line",
    [b"0" * 2**28, b"\n" * 2**28, (json.dumps({"a": "b" * 1000}) + "\n").encode() * 2**18],
    ids=["one long line", "empty lines", "lines of others"],
)
def test_provenance_that_unpacks_to_much_is_refused(path, line):
    write_manifest(zarr.open_group(path, mode="r+"), gzip.compress(line, 1))
    with bounded_memory(MEMORY), pytest.raises(StoreError, match="provenance"):
        open_store(path).read_pictures()
    with bounded_memory(MEMORY):
        expect_one_line(path)


@pytest.mark.parametrize(
    "value",
    [
        *[("file/root", 5), ("file/label", "cat"), ("file/split", 1), ("facts/sha256", "ab"), ("group", 2**70)],
        *[("facts/thumbnail", "00"), ("facts/profile", "7e" * 32), ("facts/width", 0), ("facts/bytes", "1")],
        ("group", None),
    ],
    ids=lambda value: value[0],
)
def test_picture_of_the_provenance_that_cannot_be_is_refused(path, value):
    lines = gzip.decompress(encode_manifest(open_store(path).read_pictures())).splitlines()
    first = json.loads(lines[0])
    *keys, last = value[0].split("/")
    place = first[keys[0]] if keys else first
    place[last] = value[1]
    write_manifest(
        zarr.open_group(path, mode="r+"), gzip.compress(b"\n".join([json.dumps(first).encode(), *lines[1:]]))
    )
    with pytest.raises(StoreError, match="provenance"):
        open_store(path).read_pictures()
    expect_one_line(path)


ARRAY_EDITS = {
    "many rows": ("label/zarr.json", "shape/0", 10**9),
    "more rows than can be": ("label/zarr.json", "shape/0", 10**18),
    "rows below none": ("label/zarr.json", "shape/0", -1),
    "rows that are none": ("label/zarr.json", "shape/0", True),
    "other rows": ("label/zarr.json", "shape/0", 47),
    "another rank": ("label/zarr.json", "shape", [48, 1]),
    "many rows of features": ("features/zarr.json", "shape/0", 10**9),
    "more features": ("features/zarr.json", "shape/3", 33),
    "large chunks": ("label/zarr.json", "chunk_grid/configuration/chunk_shape/0", 10**9),
    "chunks of none": ("label/zarr.json", "chunk_grid/configuration/chunk_shape/0", 0),
    "many chunks": ("provenance/zarr.json", "chunk_grid/configuration/chunk_shape/0", 1),
    "another grid": ("label/zarr.json", "chunk_grid/name", "rectilinear"),
    "another type": ("label/zarr.json", "data_type", "int64"),
    "an object": ("split/zarr.json", "data_type", {"name": "object"}),
    "another fill value": ("label/zarr.json", "fill_value", 1),
    "other names": ("label/zarr.json", "chunk_key_encoding/configuration/separator", "."),
    "transformers": ("label/zarr.json", "storage_transformers", [{"name": "x"}]),
    "another codec": ("label/zarr.json", "codecs/1", {"name": "gzip", "configuration": {"level": 1}}),
    "pickle": ("split/zarr.json", "codecs/0", {"name": "numcodecs.pickle", "configuration": {}}),
    "a third codec": ("label/zarr.json", "codecs/0", {"name": "transpose", "configuration": {"order": [0]}}),
    "another order": ("statistics/mean/zarr.json", "codecs/0/configuration/endian", "big"),
    "no codec": ("label/zarr.json", "codecs", []),
    "shards in shards": ("features/zarr.json", "codecs/0/configuration/codecs/0", {"name": "sharding_indexed"}),
    "large shards": ("features/zarr.json", "chunk_grid/configuration/chunk_shape/0", 2**30),
    "index at the start": ("features/zarr.json", "codecs/0/configuration/index_location", "start"),
    "text": ("label/zarr.json", "shape", "many"),
    "longer profiles": ("profiles/zarr.json", "shape/1", 756),
    "other profiles": ("profiles/zarr.json", "shape/0", 47),
    "an older format": ("label/zarr.json", "zarr_format", 2),
}


@pytest.mark.parametrize("name", ARRAY_EDITS)
def test_array_that_a_build_does_not_write_is_refused(path, name):
    file, place, value = ARRAY_EDITS[name]
    edit_json(path / file, place, value)
    with bounded_memory(MEMORY), pytest.raises(StoreError, match="is damaged"):
        read_all(path)
    with bounded_memory(MEMORY):
        expect_one_line(path)


def test_checksums_of_more_shards_than_can_be_are_refused(path):
    edit_json(path / "checksums/zarr.json", "shape/0", 2**20)
    assert read_checksums(Storage(path)) == []
    assert "checksums" in verify_store(str(path)).damage


ATTRIBUTE_EDITS = {
    "roots": [5, [5], [None], {"a": 1}],
    "set_aside": [[1], [{"path": 1, "reason": "a"}], [{"other": "a"}]],
    "simulated": ["no", None],
    "class_names": [["fake", "real"], ["real", "fake", "other"]],
    "versions": [5, {"numpy": 2}],
    "arrays": [5, {"label": None}],
    "fingerprint": [None, 7],
    "digest": [None],
    "settings": [5, {}, {"features": 5}, {"features": {"size": 10**9}}, {"features": {"size": "x"}}],
    "complete": ["yes"],
    "planes": [5, [5]],
}


@pytest.mark.parametrize("name", ATTRIBUTE_EDITS)
def test_attribute_that_cannot_be_is_refused(path, name):
    before = dict(zarr.open_group(path, mode="r").attrs)
    for value in ATTRIBUTE_EDITS[name]:
        storage = Storage(path)
        changed = {**before, name: value}
        # Whoever made it made its digests too.
        write_attributes(storage, changed if name in ("arrays", "digest") else add_digests(storage, changed))
        with pytest.raises(StoreError, match=r"is damaged|is not finished|expected"):
            open_store(path)
        expect_one_line(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("label", 2), ("root", 1), ("picture", -1), ("group", -5), ("width", 0), ("bytes", -1), ("scale", np.nan)],
        *[("split", "elsewhere"), ("sha256", "ab")],
    ],
)
def test_column_with_a_value_that_cannot_be_is_refused(path, name, value):
    array = zarr.open_group(path, mode="r+")[name]
    values = array[:]
    values[3] = value
    array[:] = values
    with pytest.raises(StoreError, match=f"damaged .*{name}: "):
        open_store(path)
    expect_one_line(path)


@pytest.mark.parametrize("depth", [100, 900, 10**5])
@pytest.mark.parametrize("file", ["zarr.json", "label/zarr.json", "build/done/00000000.json"])
def test_deeply_nested_metadata_are_refused(path, file, depth):
    (path / file).parent.mkdir(parents=True, exist_ok=True)
    (path / file).write_text(deep_json(depth))
    if file.endswith("zarr.json"):
        with pytest.raises(StoreError, match=r"nested more than 64 deep|expected at most"):
            open_store(path)
    expect_one_line(path)


@pytest.mark.parametrize("text", ["[" + "[],"[:-1] + ",[]" * 2**23 + "]", " " * (2**26 + 1)], ids=["values", "bytes"])
def test_large_metadata_are_refused_before_they_are_parsed(path, text):
    (path / "zarr.json").write_text(text)
    with bounded_memory(2**28), pytest.raises(StoreError, match=r"expected at most|more than"):
        open_store(path)


class Command:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.system, (f"touch {self.file}",)


def test_group_of_an_older_format_with_pickles_is_not_read(tmp_path):
    path, mark = tmp_path / "a.zarr", tmp_path / "executed"
    pickled = pickle.dumps(np.array([Command(mark)], dtype=object))
    for name in ("features", "label"):
        (path / name).mkdir(parents=True)
        filters = [{"id": "vlen-utf8"}, {"id": "pickle", "protocol": 5}]
        array = {"zarr_format": 2, "shape": [1], "chunks": [1], "dtype": "|O", "compressor": None, "fill_value": 0}
        (path / name / ".zarray").write_text(json.dumps({**array, "order": "C", "filters": filters}))
        (path / name / "0").write_bytes(pickled)
    (path / ".zgroup").write_text('{"zarr_format": 2}')
    (path / ".zattrs").write_text(json.dumps({"format_version": 2, "complete": True}))
    with pytest.raises(StoreError, match="not a feature store"):
        open_store(path)
    expect_one_line(path)
    assert not mark.exists()


WEIRD = st.one_of(
    st.sampled_from(
        [None, True, -1, 0, 1, 2**16, 2**31, 2**63, 10**30, -1e300, float("nan"), "", "x", "string", "\0", "../.."]
    ),
    st.sampled_from([[], {}, [[]], [1] * 70, {"name": "bytes"}, {"name": "gzip"}, {"a": {"b": {}}}]),
)
FILES = ["zarr.json", "features/zarr.json", "label/zarr.json", "split/zarr.json", "checksums/zarr.json"]
FILES += ["profiles/zarr.json", "provenance/zarr.json", "card/zarr.json", "statistics/mean/zarr.json"]


@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_change_of_metadata_ends_in_one_line(sound, tmp_path, data):
    path = tmp_path / "a.zarr"
    if not path.exists():
        shutil.copytree(sound, path)
    file = data.draw(st.sampled_from(FILES))
    document = json.loads((sound / file).read_text())
    change_document(document, data, WEIRD)
    (path / file).write_text(json.dumps(document))
    try:
        with bounded_memory(MEMORY):
            expect_one_line_of(read_all, path)
            expect_one_line_of(verify_store, str(path))
    finally:
        (path / file).write_bytes((sound / file).read_bytes())
