"""A damaged picture is refused by every way of decoding, also where Pillow alone would take it."""

import io
import random
import struct
import zlib
from functools import cache

import numpy as np
import pytest
from helpers.pictures import draw_noise
from PIL import Image

from data_cards.core.errors import PictureError
from data_cards.image.damage import may_hide_damage, simplejpeg
from data_cards.image.decode import decode_picture
from data_cards.image.facts import compute_facts

LIMIT = 10**6
needs_simplejpeg = pytest.mark.skipif(
    simplejpeg is None, reason="simplejpeg, which reports libjpeg's warnings, is missing"
)
SMOOTH = draw_noise(5, 160, 128)

# Formats with a checksum over their pixels, or a decoder that notices nearly all damage: none that shows may pass.
CHECKED = {
    "png": ("PNG", "RGB", {}),
    "png-stored": ("PNG", "RGB", {"compress_level": 0}),
    "png-palette": ("PNG", "P", {}),
    "png-sixteen": ("PNG", "I;16", {}),
    "tiff-deflate": ("TIFF", "RGB", {"compression": "tiff_adobe_deflate"}),
    "ico": ("ICO", "RGBA", {"sizes": [(64, 64)]}),
}
# Formats of which Pillow's word is the last one, and for JPEG libjpeg's warnings: see docs/verdicts.md.
OTHERS = {
    "jpeg": ("JPEG", "RGB", {"quality": 85}),
    "jpeg-grey": ("JPEG", "L", {"quality": 85}),
    "jpeg-progressive": ("JPEG", "RGB", {"quality": 85, "progressive": True}),
    "jpeg-restarts": ("JPEG", "RGB", {"quality": 85, "restart_marker_rows": 1}),
    "jpeg-cmyk": ("JPEG", "CMYK", {"quality": 85}),
    "webp": ("WEBP", "RGB", {"quality": 85}),
    "webp-lossless": ("WEBP", "RGB", {"lossless": True}),
    "gif": ("GIF", "P", {}),
    "tiff-lzw": ("TIFF", "RGB", {"compression": "tiff_lzw"}),
    "tiff-packbits": ("TIFF", "RGB", {"compression": "packbits"}),
    "tiff-jpeg": ("TIFF", "RGB", {"compression": "jpeg"}),
    "bmp": ("BMP", "RGB", {}),
    "jpeg2000": ("JPEG2000", "RGB", {}),
    "avif": ("AVIF", "RGB", {"quality": 80, "speed": 10}),
    "tga": ("TGA", "RGB", {"compression": "tga_rle"}),
}


@cache
def encode(name: str) -> bytes:
    kind, mode, options = (CHECKED | OTHERS)[name]
    picture = SMOOTH
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(SMOOTH.convert("L"), np.uint16) * 257)
    buffer = io.BytesIO()
    (picture if mode == "I;16" else picture.convert(mode)).save(buffer, kind, **options)
    return buffer.getvalue()


def damage(data: bytes, seed: int) -> bytes:
    """Change, zero, insert, delete or cut off bytes at a seeded place behind the header."""
    draw = random.Random(seed)
    place = draw.randrange(len(data) // 10, len(data) - 16)
    how, count = draw.choice(("byte", "bit", "ones", "zeros", "insert", "delete", "cut")), draw.randrange(1, 64)
    before, after = data[:place], data[place:]
    match how:
        case "byte":
            return before + bytes([draw.randrange(256)]) + after[1:]
        case "bit":
            return before + bytes([after[0] ^ 1 << draw.randrange(8)]) + after[1:]
        case "ones" | "zeros":
            filled = (b"\xff" if how == "ones" else b"\0") * len(after[:count])
            return before + filled + after[count:]
        case "insert":
            return before + draw.randbytes(count) + after
        case "delete":
            return before + after[count:]
    return before


def decode(data: bytes) -> np.ndarray | None:
    """Decode, or return None where the file is refused; its facts must be refused too, and the other way round."""
    try:
        pixels = np.asarray(decode_picture(data, LIMIT)).astype(int)
    except PictureError:
        with pytest.raises(PictureError):
            compute_facts(data, b"", LIMIT)
        return None
    compute_facts(data, b"", LIMIT)
    return pixels


def decode_with_pillow(data: bytes) -> bool:
    try:
        with Image.open(io.BytesIO(data)) as picture:
            picture.load()
        return True
    except Exception:
        return False


def share_of_wrong_pixels(pixels: np.ndarray, sound: np.ndarray) -> float:
    return 1.0 if pixels.shape != sound.shape else float((np.abs(pixels - sound).max(axis=2) > 2).mean())


@pytest.mark.parametrize("name", CHECKED)
def test_damage_that_shows_is_refused_in_formats_with_a_checksum(name):
    sound = decode(encode(name))
    for seed in range(60):
        pixels = decode(damage(encode(name), seed))
        assert pixels is None or share_of_wrong_pixels(pixels, sound) < 0.01, f"seed {seed}"


@pytest.mark.parametrize("name", [*CHECKED, *OTHERS])
def test_what_pillow_refuses_is_refused(name):
    assert decode(encode(name)) is not None
    refused = 0
    for seed in range(30):
        data = damage(encode(name), seed)
        if not decode_with_pillow(data):
            refused += 1
            assert decode(data) is None, f"seed {seed}"
    assert refused


@needs_simplejpeg
@pytest.mark.parametrize("name", ["jpeg", "jpeg-grey", "jpeg-progressive", "jpeg-restarts", "jpeg-cmyk", "tiff-jpeg"])
def test_jpeg_that_pillow_alone_would_take_is_refused_by_libjpegs_warnings(name):
    refused = sum(
        decode_with_pillow(data) and decode(data) is None for data in (damage(encode(name), seed) for seed in range(60))
    )
    assert refused >= 8


@pytest.mark.parametrize("name", CHECKED)
def test_zeros_in_place_of_a_quarter_are_refused_in_formats_with_a_checksum(name):
    data = encode(name)
    for start in (len(data) // 4, len(data) // 2, 3 * len(data) // 4):
        zeroed = data[:start] + bytes(len(data) // 4) + data[start + len(data) // 4 :]
        assert decode(zeroed[: len(data)]) is None


@needs_simplejpeg
def test_jpeg_with_bytes_missing_in_the_middle_names_the_damage():
    data = encode("jpeg")
    middle = len(data) // 2
    with pytest.raises(PictureError, match=r"broken or truncated: (Corrupt JPEG data|Premature end)"):
        decode_picture(data[:middle] + data[middle + 500 :], LIMIT)


@pytest.mark.parametrize("tail", [b"\0" * 100, b"trailing text", b"\xff\xd8\xff\xe1\0\0"])
def test_bytes_after_the_end_of_a_jpeg_do_not_spoil_it(tail):
    assert (decode(encode("jpeg") + tail) == decode(encode("jpeg"))).all()


@pytest.mark.parametrize(
    "junk", [b"\0\0\0\0", b"junk", b"\xff\xe1\0\x10Exif", b"\xff\xe2\0\x10ICC_PROFILE\0\x07\x02", b"\xff\xd0\xff\xd1"]
)
def test_junk_among_the_metadata_of_a_jpeg_does_not_spoil_it(junk):
    data = encode("jpeg")
    tables = data.index(b"\xff\xdb")
    if junk.startswith(b"\xff\xe1"):
        junk += bytes(int.from_bytes(junk[2:4]) - len(junk) + 2 + 5)  # five bytes more than the segment tells
    data = data[:tables] + junk + data[tables:]
    assert decode_with_pillow(data)
    assert (decode(data) == decode(encode("jpeg"))).all()


def test_sound_jpeg_of_every_kind_is_taken():
    for mode in ("RGB", "L", "CMYK"):
        for options in ({}, {"progressive": True}, {"restart_marker_blocks": 3}, {"subsampling": 0}, {"quality": 1}):
            for size in ((1, 1), (7, 9), (160, 128)):
                buffer = io.BytesIO()
                SMOOTH.resize(size).convert(mode).save(buffer, "JPEG", **options)
                assert decode(buffer.getvalue()).shape[:2] == size[::-1]


def test_png_with_damaged_pixels_is_not_decoded_by_reading_its_exif_data():
    data = bytearray(encode("png"))
    place = int(len(data) * 0.15)
    data[place : place + 8] = b"\xff" * 8
    for _ in range(2):
        with pytest.raises(PictureError, match="broken or truncated"):
            decode_picture(bytes(data), LIMIT)
        with pytest.raises(PictureError, match="broken or truncated"):
            compute_facts(bytes(data), b"", LIMIT)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "1", "P", "I;16"])
def test_png_with_fewer_rows_than_its_header_tells_is_refused(mode, interlaced):
    def encode_rows(told: int) -> bytes:
        """A PNG of 37 columns and 20 rows, whose header tells of `told` rows."""
        bits, colours, pixel = {
            "RGB": (8, 2, 3),
            "RGBA": (8, 6, 4),
            "L": (8, 0, 1),
            "1": (1, 0, 1 / 8),
            "P": (8, 3, 1),
        }.get(mode, (16, 0, 2))
        passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
        rows = b""
        for left, top, right, down in passes if interlaced else [(0, 0, 1, 1)]:
            columns = -((left - 37) // right)
            row = b"\0" + b"\x41" * -int(-columns * pixel // 1)
            rows += row * -((top - 20) // down)
        header = struct.pack(">IIBBBBB", 37, told, bits, colours, 0, 0, interlaced)
        chunks = [(b"IHDR", header), (b"PLTE", bytes(768)), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
        return b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
            for kind, body in chunks
            if kind != b"PLTE" or mode == "P"
        )

    assert decode(encode_rows(20)) is not None
    with pytest.raises(PictureError, match="broken or truncated"):
        decode_picture(encode_rows(40), LIMIT)


def test_black_picture_is_taken():
    buffer = io.BytesIO()
    Image.new("RGB", (50, 40)).save(buffer, "PNG")
    assert not decode(buffer.getvalue()).any()


@pytest.mark.parametrize("name", ["bmp", "tiff-packbits", "tga"])
def test_part_of_one_value_may_be_damage_in_formats_without_a_check(name):
    kind, mode, options = OTHERS[name]
    for left_out, doubted in ((0, False), (4, False), (20, True), (128, True)):
        picture = SMOOTH.convert(mode)
        picture.paste((0, 0, 0), (0, 128 - left_out, 160, 128))
        buffer = io.BytesIO()
        picture.save(buffer, kind, **options)
        assert may_hide_damage(decode_picture(buffer.getvalue(), LIMIT), buffer.getvalue()) == doubted


def test_part_of_one_value_is_no_damage_in_a_format_with_a_check():
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64)).save(buffer, "PNG")
    assert not may_hide_damage(decode_picture(buffer.getvalue(), LIMIT), buffer.getvalue())


def test_picture_smaller_than_a_tile_is_not_doubted():
    buffer = io.BytesIO()
    Image.new("RGB", (9, 7)).save(buffer, "BMP")
    assert not may_hide_damage(decode_picture(buffer.getvalue(), LIMIT), buffer.getvalue())
