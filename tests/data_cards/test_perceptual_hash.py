"""Near-duplicates are found through re-encoding and resizing; different pictures are not grouped."""

import io
import tracemalloc

import numpy as np
import pytest
from helpers.pictures import draw_noise
from PIL import Image

from data_cards.image.facts import read_facts
from data_cards.image.perceptual_hash import MAX_DISTANCE, compute_perceptual_hash, group_near_duplicates


def group(hashes: list[bytes]) -> np.ndarray:
    return group_near_duplicates(np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, 32))


def flip(digest: bytes, bits: list[int]) -> bytes:
    values = np.unpackbits(np.frombuffer(digest, dtype=np.uint8))
    values[bits] ^= 1
    return np.packbits(values).tobytes()


def test_groups_are_found_up_to_the_distance_and_not_beyond():
    rng = np.random.default_rng(0)
    base = rng.bytes(32)
    near = flip(base, rng.choice(256, MAX_DISTANCE, replace=False).tolist())
    far = flip(base, rng.choice(256, 2 * MAX_DISTANCE + 2, replace=False).tolist())
    assert group([base, rng.bytes(32), near, far]).tolist() == [0, 1, 0, 3]


def test_group_near_duplicates_equals_comparing_all_pairs():
    rng = np.random.default_rng(1)
    hashes = [rng.bytes(32) for _ in range(60)]
    hashes += [
        flip(hashes[rng.integers(60)], rng.choice(256, rng.integers(25), replace=False).tolist()) for _ in hashes
    ]
    bits = np.unpackbits(np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, 32), axis=1).astype(int)
    close = np.abs(bits[:, None] - bits[None]).sum(-1) <= MAX_DISTANCE
    reach = np.linalg.matrix_power(close.astype(float), 120) > 0
    assert group(hashes).tolist() == reach.argmax(axis=1).tolist()


def test_group_near_duplicates_of_many_equal_hashes_is_fast():
    assert set(group([b"\0" * 32] * 50_000).tolist()) == {0}
    assert group([]).tolist() == []


def test_group_near_duplicates_of_thousands_of_frames_takes_little_memory():
    rng = np.random.default_rng(2)
    scenes = [rng.bytes(32), rng.bytes(32)]
    frames = [flip(scenes[number % 2], rng.choice(256, 5, replace=False).tolist()) for number in range(4000)]
    tracemalloc.start()
    groups = group(frames)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert groups.tolist() == [0, 1] * 2000
    assert peak < 30e6  # all pairs of a scene would be two million


@pytest.mark.parametrize(("quality", "scale"), [(95, 1), (30, 1), (75, 0.5), (40, 0.5)])
def test_reencoded_and_resized_photographs_stay_in_their_group(photos, tmp_path, quality, scale):
    files = sorted(photos.glob("train/*/*/*.jpg"))[::40]
    originals = [read_facts(file, 10**8).phash for file in files]
    changed = []
    for file in files:
        with Image.open(file) as picture:
            smaller = picture.convert("RGB").resize([round(side * scale) for side in picture.size])
        smaller.save(tmp_path / "changed.jpg", quality=quality)
        changed.append(read_facts(tmp_path / "changed.jpg", 10**8).phash)
    groups = group(originals + changed)
    assert (groups[: len(files)] == np.arange(len(files))).all()
    assert (groups[len(files) :] == np.arange(len(files))).all()


def test_hash_does_not_depend_on_format_or_orientation(tmp_path):
    picture = draw_noise(5, 300, 200)
    picture.save(tmp_path / "a.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    picture.transpose(Image.Transpose.ROTATE_90).save(buffer, "JPEG", exif=exif, quality=85)
    (tmp_path / "b.jpg").write_bytes(buffer.getvalue())
    one, other = read_facts(tmp_path / "a.png", 10**8), read_facts(tmp_path / "b.jpg", 10**8)
    assert (one.width, one.height) == (other.width, other.height) == (300, 200)
    assert group([one.phash, other.phash]).tolist() == [0, 0]


def test_hash_of_a_flat_picture_has_no_noise():
    assert compute_perceptual_hash(Image.new("L", (100, 80), 77)) == b"\0" * 32
