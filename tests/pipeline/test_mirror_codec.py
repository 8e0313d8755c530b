"""The packing codec loses nothing, whatever it is given, and halves what is mirrored."""

import subprocess
import sys

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.codecs import ZstdCodec

from pipeline.features.periodogram import compute_periodogram_levels
from pipeline.features.symmetry import fill_mirror_images, is_mirrored
from pipeline.store.mirror_codec import CODEC_NAME, EVEN, ODD, WHOLE, MirrorCodec, pack, unpack

DTYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8", ">f4", ">u2"]


def random_chunk(seed, shape, dtype):
    """Any bits at all: NaN, infinities and negative zeros among the floats."""
    dtype = np.dtype(dtype)
    return np.frombuffer(np.random.default_rng(seed).bytes(int(np.prod(shape)) * dtype.itemsize), dtype).reshape(shape)


def same_bits(one, other):
    one, other = (np.ascontiguousarray(a, dtype=a.dtype.newbyteorder("<")) for a in (one, other))
    return one.tobytes() == other.tobytes() and one.shape == other.shape


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    leading=st.lists(st.integers(1, 3), max_size=2),
    height=st.integers(1, 9),
    width=st.integers(1, 40),
    dtype=st.sampled_from(DTYPES),
    kind=st.sampled_from([WHOLE, EVEN, ODD]),
)
def test_every_chunk_comes_back(seed, leading, height, width, dtype, kind):
    chunk = random_chunk(seed, (*leading, height, width), dtype).copy()
    if kind != WHOLE:
        fill_mirror_images(chunk, odd=kind == ODD)
    packed = pack(chunk)
    assert same_bits(unpack(packed, chunk.shape, chunk.dtype), chunk)
    if kind != WHOLE and height * width > 4:
        assert packed[0] != WHOLE
        assert len(packed) < 1 + chunk.nbytes


@pytest.mark.parametrize("odd", [False, True])
@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
@pytest.mark.parametrize("width", [1, 8, 17, 18, 19, 33, 34, 50, 64])
@pytest.mark.parametrize("height", [1, 8, 9])
def test_mirror_images_are_where_the_definition_says(height, width, dtype, odd):
    planes = np.random.default_rng(0).integers(0, 256, (2, height, width)).astype(dtype)
    filled = planes.copy()
    fill_mirror_images(filled, odd)
    rows, columns = (2 * (side // 2) - np.arange(side) for side in (height, width))
    images = filled[:, rows[:, None] % height, columns % width]
    own = (rows % height == np.arange(height))[:, None] & (columns % width == np.arange(width))
    np.testing.assert_array_equal(filled[:, ~own], (np.negative(images) if odd else images)[:, ~own])
    np.testing.assert_array_equal(filled[..., width // 2 + 1 :], planes[..., width // 2 + 1 :])
    np.testing.assert_array_equal(filled[:, own], planes[:, own])


@settings(max_examples=100, deadline=None)
@given(height=st.integers(2, 12), width=st.integers(2, 40), place=st.integers(0, 10**6), odd=st.booleans())
def test_one_changed_bit_is_never_lost(height, width, place, odd):
    chunk = random_chunk(place, (3, height, width), "u1").copy()
    fill_mirror_images(chunk, odd)
    chunk.reshape(-1)[place % chunk.size] ^= 1 << place % 8
    assert same_bits(unpack(pack(chunk), chunk.shape, chunk.dtype), chunk)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (33, 64), (64, 33), (33, 33)])
def test_spectra_are_recognised(height, width):
    rgb = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    planes = compute_periodogram_levels(rgb)
    kinds = [int(pack(planes[start : start + 3])[0]) for start in (0, 3, 6)]
    assert kinds == [EVEN, ODD, WHOLE]
    assert len(pack(planes[:3])) < 0.53 * planes[:3].nbytes
    assert is_mirrored(planes[:3], odd=False)
    assert not is_mirrored(planes[6:], odd=False)


@pytest.mark.parametrize("damage", [b"", b"\x07abc", b"\x01", b"\x00" + b"x" * 5])
def test_damaged_bytes_are_refused(damage):
    with pytest.raises(ValueError, match="damaged"):
        unpack(np.frombuffer(damage, np.uint8), (1, 3, 8, 8), np.dtype("u1"))


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", ">i2"])
@pytest.mark.parametrize("size", [16, 17])
def test_plain_zarr_finds_it_by_its_entry_point(tmp_path, dtype, size):
    data = random_chunk(1, (5, 9, size, size), dtype).copy()
    fill_mirror_images(data[:, 0:3], odd=False)
    fill_mirror_images(data[:, 3:6], odd=True)
    array = zarr.create_array(
        tmp_path / "a.zarr", shape=data.shape, dtype=data.dtype, chunks=(1, 3, size, size), shards=(2, 9, size, size),
        serializer=MirrorCodec(), compressors=ZstdCodec(level=1), filters=None,
    )  # fmt: skip
    array[:] = data
    assert CODEC_NAME in (tmp_path / "a.zarr/zarr.json").read_text()
    assert same_bits(zarr.open(tmp_path / "a.zarr", mode="r")[:], data)


def test_without_the_package_the_error_names_it(tmp_path):
    zarr.create_array(tmp_path / "a.zarr", shape=(2, 8, 8), dtype="u1", chunks=(1, 8, 8), serializer=MirrorCodec())
    elsewhere = (
        "import importlib.metadata as metadata\n"
        "metadata.entry_points = lambda **_: metadata.EntryPoints()\n"
        f"import zarr; zarr.open(r'{tmp_path}/a.zarr', mode='r')"
    )
    result = subprocess.run([sys.executable, "-c", elsewhere], capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert CODEC_NAME in result.stderr.splitlines()[-1]


@pytest.mark.parametrize("dtype", ["bool", "complex64", "S4", "M8[s]"])
def test_codec_on_other_than_numbers_raises(tmp_path, dtype):
    with pytest.raises(ValueError, match="expected integers or floating-point numbers"):
        zarr.create_array(tmp_path / "a", shape=(4, 4), dtype=dtype, chunks=(4, 4), serializer=MirrorCodec())


def test_codec_without_rows_and_columns_raises(tmp_path):
    with pytest.raises(ValueError, match=r"expected an array of two axes or more, got shape \(4,\)"):
        zarr.create_array(tmp_path / "a", shape=(4,), dtype="u1", chunks=(4,), serializer=MirrorCodec())
    for shape in ((), (5,), (3, 0, 4), (3, 4, 0)):
        with pytest.raises(ValueError, match=r"expected .*rows, columns"):
            pack(np.zeros(shape, "u1"))
