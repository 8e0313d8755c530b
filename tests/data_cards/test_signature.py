"""Pictures are recognised by their first bytes, whatever they are called, and other files are not."""

import io
import os

import pytest
from helpers.pictures import draw_noise
from PIL import features

from data_cards.image.signature import HEAD, find_format, is_picture_file

SAVED = {"JPEG": "RGB", "PNG": "RGB", "GIF": "P", "WEBP": "RGB", "TIFF": "RGB", "JPEG2000": "RGB", "BMP": "RGB"}
SAVED |= {"DIB": "RGB", "PPM": "RGB", "ICO": "RGB", "ICNS": "RGBA", "AVIF": "RGB"}


def encode(kind: str, mode: str = "RGB", **options) -> bytes:
    buffer = io.BytesIO()
    draw_noise(1, 32, 32).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(("kind", "mode"), SAVED.items())
def test_find_format_of_what_pillow_writes_names_the_format(kind, mode):
    assert find_format(encode(kind, mode)[:HEAD]) == kind


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA"])
@pytest.mark.parametrize("kind", ["BMP", "DIB"])
def test_find_format_of_bitmaps_of_every_depth_names_the_format(kind, mode):
    assert find_format(encode(kind, mode)[:HEAD]) == kind


@pytest.mark.parametrize(("mode", "suffix"), [("1", "P4"), ("L", "P5"), ("RGB", "P6"), ("F", "Pf")])
def test_find_format_of_portable_maps_names_the_format(mode, suffix):
    data = encode("PPM", mode)
    assert data.startswith(suffix.encode())
    assert find_format(data[:HEAD]) == "PPM"


@pytest.mark.skipif(not features.check("libtiff"), reason="Pillow without libtiff")
def test_find_format_of_tiff_in_every_byte_order_and_size_names_the_format():
    assert find_format(encode("TIFF", "RGB", big_tiff=True)[:HEAD]) == "TIFF"
    assert find_format(encode("TIFF", "I;16B")[:HEAD]) == "TIFF"


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1", "HEIF"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0heic", "HEIF"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf", "AVIF"),
        (b"\0\0\0\x18ftypavif\0\0\0\0mif1", "AVIF"),
        (b"\0\0\0\x18ftypisom\0\0\0\0mp42", None),
        (b"\0\0\0\x18ftypqt  \0\0\0\0qt  ", None),
    ],
)
def test_find_format_of_iso_files_goes_by_their_brand(head, kind):
    assert find_format(head) == kind


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"hello, I am a text file and I am long enough",
        b"BMW is a maker of cars, and this is a text",
        b"P5.js is a library for drawing",
        b"Python 3.11",
        b"path,label\na.jpg,0\n",
        b'{"file_name": "0001.png"}',
        b"PK\x03\x04\x14\0\0\0\x08\0",
        b"\x1f\x8b\x08\0\0\0\0\0",
        b"%PDF-1.7",
        b"%!PS-Adobe-3.0 EPSF-3.0",
        b"<svg xmlns='http://www.w3.org/2000/svg'>",
        b"RIFF\x24\0\0\0WAVEfmt ",
        b"RIFF\x24\0\0\0AVI LIST",
        b"\x28\0\0\0\x28\0\0\0\x28\0\0\0\x28\0\0\0\x28\0\0\0",  # numbers, and no bitmap's header
        b"\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0",
        b"\0" * 32,
        b"icns are the icons of a Mac",
    ],
)
def test_find_format_of_what_is_no_picture_is_none(head):
    assert find_format(head) is None


@pytest.mark.parametrize("name", ["a", "a.jpg_large", "a.jpg!d", "a.jpeg~orig", "a.jpg?w=512", "a.JFIF", "a.txt"])
def test_picture_of_any_name_is_a_picture_file(name, tmp_path):
    (tmp_path / name).write_bytes(encode("JPEG"))
    assert is_picture_file(tmp_path / name)


def test_suffix_of_a_picture_makes_a_picture_file_whatever_the_bytes(tmp_path):
    (tmp_path / "page.JPG").write_bytes(b"<html>not found</html>")
    assert is_picture_file(tmp_path / "page.JPG")


def test_text_folder_link_to_nowhere_and_pipe_are_no_picture_files(tmp_path):
    (tmp_path / "notes.txt").write_text("notes")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    os.mkfifo(tmp_path / "pipe")
    assert not any(is_picture_file(tmp_path / name) for name in ("notes.txt", "folder", "link", "pipe"))
