"""Large JPEG pictures decoded at reduced scale: only where asked for, never too small, by one path."""

import io
from pathlib import Path

import numpy as np
import pytest
import zarr
from conftest import draw_noise, make_kaggle_dir

from data_cards.decode import decode_picture
from data_cards.errors import UsageError, UserError
from pipeline.build import build_store
from pipeline.features import features_of_file
from pipeline.settings import BuildSettings, FeatureSettings
from pipeline.store import open_store

FULL, REDUCED = (BuildSettings(FeatureSettings(size=16, jpeg_scale=scale), "clean") for scale in ("full", "reduced"))


def encode(width: int, height: int, kind: str = "JPEG", **options) -> bytes:
    buffer = io.BytesIO()
    draw_noise(1, width, height).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [
        pytest.param(300, 256, (38, 32), id="an-eighth"),
        pytest.param(256, 300, (32, 38), id="an-eighth-upright"),
        pytest.param(300, 255, (75, 64), id="a-quarter"),
        pytest.param(90, 64, (45, 32), id="a-half"),
        pytest.param(90, 63, (90, 63), id="full"),
        pytest.param(4000, 32, (4000, 32), id="full-though-long"),
    ],
)
def test_the_short_side_stays_long_enough(width, height, expected):
    data = encode(width, height)
    assert decode_picture(data, 10**6, least_side=32).size == expected
    assert decode_picture(data, 10**6).size == (width, height)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "BMP"])
def test_other_formats_are_decoded_in_full(kind):
    assert decode_picture(encode(256, 256, kind), 10**6, least_side=32).size == (256, 256)


def test_a_picture_on_its_side_is_made_upright():
    data = encode(256, 512, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0")
    assert decode_picture(data, 10**6, least_side=32).size == (64, 32)
    assert decode_picture(data, 10**6).size == (512, 256)


@pytest.fixture
def source(tmp_path) -> Path:
    """A few small pictures and a large JPEG one."""
    make_kaggle_dir(tmp_path / "kaggle", per_source=2)
    (tmp_path / "kaggle/train/real/camera/large.jpg").write_bytes(encode(160, 130, quality=92))
    return tmp_path / "kaggle"


def test_a_build_and_a_verdict_see_the_same(source, tmp_path):
    full, reduced = (
        open_store(build_store([str(source)], str(tmp_path / f"{one.features.jpeg_scale}.zarr"), one, workers=0).path)
        for one in (FULL, REDUCED)
    )
    assert full.fingerprint != reduced.fingerprint
    assert reduced.settings == REDUCED
    for row, image in enumerate(reduced.columns["image"]):
        read = reduced.features[row]
        assert (read == features_of_file(source / image, reduced.settings.features)).all()
        assert (read == full.features[row]).all() == (not image.endswith("large.jpg"))
    large = [image.endswith("large.jpg") for image in full.columns["image"]].index(True)
    assert full.columns["scale"][large] == reduced.columns["scale"][large] == np.float32(16 / 130)
    with pytest.raises(UserError, match="jpeg_scale was full, is now reduced"):
        build_store([str(source)], full.path, REDUCED, workers=0)


def test_a_store_from_before_the_setting_goes_on_as_full(source, tmp_path):
    path = build_store([str(source)], str(tmp_path / "a.zarr"), FULL, workers=0).path
    group = zarr.open_group(path)
    settings = dict(group.attrs["settings"])
    settings["features"] = {name: value for name, value in settings["features"].items() if name != "jpeg_scale"}
    group.attrs["settings"] = settings
    assert open_store(path).settings == FULL
    assert build_store([str(source)], path, FULL, workers=0).made == 0
    with pytest.raises(UserError, match="jpeg_scale was full, is now reduced"):
        build_store([str(source)], path, REDUCED, workers=0)


def test_what_needs_native_pixels_is_refused():
    with pytest.raises(UsageError, match="--fit crop takes native pixels"):
        FeatureSettings(fit="crop", jpeg_scale="reduced")
    with pytest.raises(UsageError, match="'stress' change native pixels"):
        BuildSettings(FeatureSettings(jpeg_scale="reduced"), "stress")
