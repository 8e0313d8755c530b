"""Every ordinary picture is decoded rightly; every other one gives a reason."""

import io

import numpy as np
import pytest
from helpers.pictures import draw_noise
from PIL import Image, PngImagePlugin

from data_cards.core.errors import PictureError
from data_cards.image.decode import decode_picture
from data_cards.image.facts import read_facts

LIMIT = 10**6


def encode(picture: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def decode(data: bytes) -> np.ndarray:
    return np.asarray(decode_picture(data, LIMIT)).astype(int)


NOISE = draw_noise(3)
PIXELS = np.asarray(NOISE).astype(int)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "TGA"])
def test_lossless_formats_keep_every_pixel(kind):
    assert (decode(encode(NOISE, kind)) == PIXELS).all()


def test_lossless_webp_keeps_every_pixel():
    assert (decode(encode(NOISE, "WEBP", lossless=True)) == PIXELS).all()


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        pytest.param("JPEG", {"quality": 95}, id="jpeg"),
        pytest.param("WEBP", {"quality": 95}, id="webp"),
        pytest.param("AVIF", {"quality": 95}, id="avif"),
        pytest.param("JPEG2000", {}, id="jpeg2000"),
    ],
)
def test_lossy_formats_stay_close(kind, options):
    smooth = draw_noise(3, 160, 128)
    assert np.abs(decode(encode(smooth, kind, **options)) - np.asarray(smooth).astype(int)).mean() < 12


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_makes_upright(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    # What a camera would store so that a viewer shows NOISE.
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    stored = NOISE if orientation == 1 else NOISE.transpose(Image.Transpose(back[orientation]))
    assert (decode(encode(stored, "PNG", exif=exif)) == PIXELS).all()


def test_broken_exif_does_not_spoil_the_picture():
    data = encode(NOISE, "JPEG", exif=b"Exif\x00\x00garbage that is no TIFF header")
    assert decode(data).shape == PIXELS.shape


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "LA", "RGBA"])
def test_modes_become_rgb(mode):
    picture = NOISE.convert(mode)
    expected = np.asarray(picture.convert("RGB")).astype(int)
    assert (decode(encode(picture, "TIFF")) == expected).all()


def test_cmyk_jpeg_keeps_its_colours():
    red = Image.new("CMYK", (32, 32), (0, 255, 255, 0))
    pixels = decode(encode(red, "JPEG", quality=95))
    assert pixels[..., 0].mean() > 240
    assert pixels[..., 1:].mean() < 15


def test_sixteen_bits_are_scaled_not_clipped():
    ramp = np.linspace(0, 65535, 1024).astype(np.uint16).reshape(32, 32)
    expected = np.rint(ramp / 257).astype(int)
    for kind in ("PNG", "TIFF"):
        assert (decode(encode(Image.fromarray(ramp), kind))[..., 0] == expected).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_laid_over_white(mode):
    picture = Image.new("RGBA", (16, 16), (0, 0, 0, 0)).convert(mode)
    assert (decode(encode(picture, "PNG")) == 255).all()


def test_palette_transparency_is_laid_over_white():
    picture = Image.new("P", (16, 16), 1)
    picture.putpalette([0, 0, 0, 200, 10, 10])
    assert (decode(encode(picture, "PNG", transparency=1)) == 255).all()


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "MPO"])
def test_animation_is_decoded_to_its_first_frame(kind):
    frames = [Image.new("RGB", (32, 32), colour) for colour in ((250, 0, 0), (0, 250, 0), (0, 0, 250))]
    pixels = decode(encode(frames[0], kind, save_all=True, append_images=frames[1:]))
    assert pixels[..., 0].mean() > 240
    assert pixels[..., 1:].mean() < 10


def test_mpo_counts_as_jpeg(tmp_path):
    path = tmp_path / "stereo.jpg"
    path.write_bytes(encode(NOISE, "MPO", save_all=True, append_images=[NOISE], quality=85))
    facts = read_facts(path, LIMIT)
    assert (facts.format, facts.quality) == ("JPEG", 85)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"", "empty", id="empty"),
        pytest.param(b"hello, I am a text file", "not a picture", id="text"),
        pytest.param(encode(draw_noise(1, 200, 200), "JPEG")[:3000], "truncated", id="jpeg-cut"),
        pytest.param(encode(draw_noise(1, 200, 200), "PNG")[:5000], "truncated", id="png-cut"),
        pytest.param(encode(NOISE, "JPEG")[:12], "broken", id="header-only"),
        pytest.param(b"\0\0\0\x18ftypheic" + b"\0" * 40, "HEI[CF]", id="heic"),
        pytest.param(encode(Image.new("L", (1001, 1000)), "PNG"), "too large", id="large"),
        pytest.param(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture", id="eps"),
    ],
)
def test_file_that_cannot_be_decoded_gives_a_reason(data, reason, tmp_path):
    with pytest.raises(PictureError, match=reason):
        decode_picture(data, LIMIT)
    path = tmp_path / "picture.jpg"
    path.write_bytes(data)
    with pytest.raises(PictureError, match=reason):
        read_facts(path, LIMIT)


def test_a_header_that_lies_about_size_is_refused_before_decoding():
    bomb = bytearray(encode(Image.new("L", (8, 8)), "BMP"))
    bomb[18:26] = (100_000).to_bytes(4, "little") * 2
    with pytest.raises(PictureError, match="too large"):
        decode_picture(bytes(bomb), LIMIT)


def test_compressed_text_bomb_is_not_unpacked():
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "x" * 50_000_000, zip=True)
    assert (decode(encode(NOISE, "PNG", pnginfo=info)) == PIXELS).all()


@pytest.mark.parametrize("quality", [1, 30, 50, 75, 92, 95, 99])
def test_jpeg_quality_is_read_from_the_tables(quality, tmp_path):
    path = tmp_path / "picture.jpg"
    NOISE.save(path, quality=quality)
    assert read_facts(path, LIMIT).quality == quality
