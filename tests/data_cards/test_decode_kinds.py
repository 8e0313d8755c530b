"""Pictures of every kind are decoded as a viewer shows them, or refused by name."""

import io
import struct
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest
from helpers.pictures import draw_noise
from PIL import Image, PngImagePlugin, TiffImagePlugin

from data_cards.core.errors import PictureError
from data_cards.dataset.scan import scan_sources
from data_cards.image.decode import decode_picture, decode_with_remarks
from data_cards.image.facts import PictureFacts, compute_facts
from data_cards.image.partial import FRAMES, PAGES, format_unused

LIMIT = 10**6
NOISE = draw_noise(3)
PIXELS = np.asarray(NOISE).astype(int)
GREY = np.asarray(NOISE.convert("L"))


def encode(picture: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def encode_tiff(values: np.ndarray, **tags: int) -> bytes:
    """Encode grey values, one strip without compression, as a TIFF of any number type, which Pillow cannot write."""
    kinds = {"u": 1, "i": 2, "f": 3}
    height, width = values.shape
    entries = {
        256: width, 257: height, 258: 8 * values.itemsize, 259: 1, 262: tags.get("photometric", 1), 277: 1,
        278: height, 279: values.nbytes, 339: kinds[values.dtype.kind],
    }  # fmt: skip
    start = 8 + 2 + 12 * (len(entries) + 1) + 4
    entries[273] = start
    body = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(entries.items()))
    little = values.astype(values.dtype.newbyteorder("<"))
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + bytes(4) + little.tobytes()


def decode(data: bytes) -> np.ndarray:
    """Decode, and check that the facts tell the same size."""
    pixels = np.asarray(decode_picture(data, LIMIT)).astype(int)
    facts = compute_facts(data, b"", LIMIT)
    assert (facts.height, facts.width) == pixels.shape[:2]
    return pixels


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_a_tiff_is_applied_once(orientation, compression):
    exif = Image.Exif()
    exif[0x0112] = orientation
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    stored = NOISE if orientation == 1 else NOISE.transpose(Image.Transpose(back[orientation]))
    pixels = decode(encode(stored, "TIFF", exif=exif, compression=compression))
    assert pixels.shape == PIXELS.shape
    assert (pixels == PIXELS).all()


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "PNG"])
def test_facts_of_a_turned_picture_tell_its_upright_size(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert decode(encode(NOISE, kind, exif=exif)).shape == (PIXELS.shape if orientation == 1 else (40, 32, 3))


@pytest.mark.parametrize(
    ("dtype", "white"),
    [
        ("u1", 255),
        ("u2", 65535),
        ("i2", 32767),
        ("u4", 2**32 - 1),
        ("i4", 2**31 - 1),
        # Few files use all 32 bits.
        ("u4", 65535),
        ("i4", 65535),
        ("u4", 255),
        ("i4", 255),
        ("f4", 1),
        ("f4", 255),
        ("f4", 65535),
    ],
)
def test_grey_tiff_of_every_number_type_shows_its_levels(dtype, white):
    values = GREY.astype(np.float64) * (white / 255)
    values[0, :2] = 0, white
    expected = np.rint(values * (255 / white))
    pixels = decode(encode_tiff(values.astype(dtype)))
    assert np.abs(pixels - expected[..., None]).max() <= 1


@pytest.mark.parametrize(("dtype", "white"), [("u1", 255), ("u2", 65535), ("f4", 1)])
def test_white_is_zero_is_not_left_inverted(dtype, white):
    values = GREY.astype(np.float64) * (white / 255)
    pixels = decode(encode_tiff((white - values).astype(dtype), photometric=0))
    assert np.abs(pixels - GREY[..., None].astype(int)).max() <= 1


@pytest.mark.parametrize("highlight", [1.0001, 1.4, 30.0, 10_000.0])
@pytest.mark.parametrize("white", [1, 255, 65535])
def test_highlights_above_white_do_not_darken_a_float_picture(white, highlight):
    values = GREY / 255
    values[:2, :4] = highlight
    pixels = decode(encode_tiff((values * white).astype("f4")))
    assert (pixels[:2, :4] == 255).all()
    assert np.abs(pixels[2:] - GREY[2:, :, None].astype(int)).max() <= 1


def test_a_bright_float_picture_with_a_third_above_white_keeps_its_mid_greys():
    values = GREY / 255
    values[: len(values) // 3] = 1.7
    pixels = decode(encode_tiff(values.astype("f4")))
    assert np.abs(pixels[-5:] - GREY[-5:, :, None].astype(int)).max() <= 1


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 1e12])
def test_float_picture_without_a_known_white_is_refused_by_name(wrong):
    values = np.full((32, 40), wrong, "f4")
    with pytest.raises(PictureError, match=r"not finite|level of white is unknown"):
        decode_picture(encode_tiff(values), LIMIT)


def test_cielab_is_converted_to_rgb():
    grey = Image.merge("LAB", [NOISE.convert("L"), Image.new("L", NOISE.size, 128), Image.new("L", NOISE.size, 128)])
    pixels = decode(encode(grey, "TIFF"))
    assert np.ptp(pixels, axis=2).max() <= 2
    assert np.corrcoef(pixels[..., 0].ravel(), GREY.ravel())[0, 1] > 0.98


def test_largest_page_of_a_tiff_is_the_picture():
    thumbnail = Image.new("RGB", (10, 8), "red")
    data = encode(thumbnail, "TIFF", save_all=True, append_images=[NOISE.copy(), thumbnail])
    assert (decode(data) == PIXELS).all()


@pytest.mark.parametrize("big", [False, True])
def test_largest_page_below_the_first_is_the_picture(big):
    assert (decode(encode_with_page_below(photometric=None, big=big)) == PIXELS).all()


def test_pages_of_a_tiff_that_point_to_each_other_end():
    data = encode(NOISE, "TIFF")
    (first,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, first)
    end = first + 2 + 12 * count
    looped = data[:end] + struct.pack("<I", first) + data[end + 4 :]
    assert (np.asarray(decode_picture(looped, LIMIT)) == PIXELS).all()


@pytest.mark.parametrize("place", [4, 9, 20])
def test_tiff_cut_off_in_its_directory_is_broken(place):
    with pytest.raises(PictureError, match="broken"):
        decode_picture(encode_tiff(GREY)[:place], LIMIT)


@pytest.mark.parametrize("tag", [330, 60_000])
def test_tags_that_point_to_much_data_cost_nothing_for_each_page(tag):
    """A thousand pages, each with a thousand pages below it, or a hundred tags of all bytes of the file."""
    body = bytearray(b"II*\0" + struct.pack("<I", 8))
    for _ in range(1000):
        entries = [(256, 4, 1, 1), (257, 4, 1, 1), *((tag + one, 1, 1_200_000, 0) for one in range(100))]
        if tag == 330:
            entries[2:] = [(330, 4, 1000, 8)]
        body += struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
        body += struct.pack("<I", len(body) + 4)
    started = time.process_time()
    with pytest.raises(PictureError):
        decode_picture(bytes(body), LIMIT)
    assert time.process_time() - started < 5


@pytest.mark.parametrize("photometric", [32803, 34892])
def test_raw_photo_with_a_thumbnail_is_refused_by_name(photometric):
    data = encode_with_page_below(photometric)
    for read in (decode_picture, lambda data, limit: compute_facts(data, b"", limit)):
        with pytest.raises(PictureError, match="a raw photo, whose 40 x 32 pixels are not developed"):
            read(data, LIMIT)


def encode_with_page_below(photometric: int | None, big: bool = False) -> bytes:
    """A TIFF as raw files are: a thumbnail on the first page, and the picture on a page below it."""
    main = encode(NOISE, "TIFF", big_tiff=big)
    header = 16 if big else 8
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[330] = 0
    tags.tagtype[330] = 16 if big else 4
    first = bytearray(encode(Image.new("RGB", (10, 8), "red"), "TIFF", tiffinfo=tags, big_tiff=big))
    shift = len(first) - header
    # Move the picture behind the thumbnail, and its directory's offsets with it.
    order, count, entry, word = ("<Q", 8, 20, "<Q") if big else ("<H", 2, 12, "<I")
    size = struct.calcsize(word)
    moved = bytearray(main[header:])
    directory = struct.unpack_from(word, main, header - size)[0] - header
    for number in range(struct.unpack_from(order, moved, directory)[0]):
        place = directory + count + number * entry
        tag, kind = struct.unpack_from("<HH", moved, place)
        amount = struct.unpack_from(word, moved, place + 4)[0]
        value = place + entry - size
        lies_elsewhere = amount * {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 16: 8}[kind] > size
        if tag == 262 and photometric is not None:
            struct.pack_into("<H", moved, value, photometric)
        if tag == 273 or lies_elsewhere:
            layout = word if lies_elsewhere or kind == 16 else "<I" if kind == 4 else "<H"
            struct.pack_into(layout, moved, value, struct.unpack_from(layout, moved, value)[0] + shift)
    directory_of_first = struct.unpack_from(word, first, header - size)[0]
    for number in range(struct.unpack_from(order, first, directory_of_first)[0]):
        place = directory_of_first + count + number * entry
        if struct.unpack_from("<H", first, place)[0] == 330:
            struct.pack_into(word, first, place + entry - size, directory + header + shift)
    return bytes(first + moved)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA"])
@pytest.mark.parametrize("kind", ["DIB", "BMP"])
def test_bitmaps_open_as_pillow_opens_them(kind, mode):
    data = encode(NOISE.convert(mode), kind)
    with Image.open(io.BytesIO(data)) as opened:
        expected = np.asarray(opened.convert("RGB")).astype(int)
    assert (decode(data) == expected).all()


@pytest.mark.parametrize("bitmap_format", ["png", "bmp"])
def test_icons_open_as_pillow_opens_them(bitmap_format):
    picture = draw_noise(4, 64, 64)
    data = encode(picture, "ICO", sizes=[(16, 16), (64, 64)], bitmap_format=bitmap_format)
    assert (decode(data) == np.asarray(picture)).all()


def test_icons_of_a_mac_open_as_pillow_opens_them():
    picture = draw_noise(4, 128, 128).convert("RGBA")
    data = encode(picture, "ICNS")
    with Image.open(io.BytesIO(data)) as opened:
        assert decode_picture(data, 2 * LIMIT).size == opened.size


def test_pictures_above_pillows_own_limit_are_decoded_under_a_larger_one():
    data = encode(Image.new("1", (20_000, 10_000)), "PNG")
    assert decode_picture(data, 200_000_000).size == (20_000, 10_000)
    with pytest.raises(PictureError, match=r"too large: 20000 x 10000 pixels.*--max-pixels"):
        decode_picture(data, 199_999_999)


def make_webp_header(kind: bytes, width: int, height: int) -> bytes:
    if kind == b"VP8X":
        body = b"\x10\0\0\0" + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    elif kind == b"VP8L":
        body = b"\x2f" + ((width - 1) | (height - 1) << 14).to_bytes(4, "little") + bytes(5)
    else:
        body = b"\x30\x01\0\x9d\x01\x2a" + struct.pack("<HH", width, height)
    chunks = kind + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks


@pytest.mark.parametrize("kind", [b"VP8 ", b"VP8L", b"VP8X"])
def test_webp_canvas_is_bounded_before_memory_is_taken(kind, monkeypatch):
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("opened"))
    with pytest.raises(PictureError, match="too large: 16000 x 12000 pixels"):
        decode_picture(make_webp_header(kind, 16000, 12000), LIMIT)


def make_icon(kind: int, inner: bytes) -> bytes:
    return struct.pack("<HHH", 0, kind, 1) + struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(inner), 22) + inner


@pytest.mark.parametrize("kind", [1, 2])
@pytest.mark.parametrize("inner", ["png", "bitmap", "old-bitmap"])
def test_pictures_inside_an_icon_are_bounded_whatever_the_icon_says(kind, inner, monkeypatch):
    large = {
        "png": encode(Image.new("1", (9000, 9000)), "PNG"),
        "bitmap": struct.pack("<IiiHH", 40, 9000, 18000, 1, 32) + bytes(24),
        "old-bitmap": struct.pack("<IHHHH", 12, 9000, 18000, 1, 24),
    }[inner]
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("opened"))
    with pytest.raises(PictureError, match="too large: 9000 x 9000 pixels"):
        decode_picture(make_icon(kind, large), LIMIT)


def test_tiles_of_a_tiff_are_bounded_too():
    data = bytearray(encode_tiff(GREY))
    entry = data.index(struct.pack("<HHII", 278, 4, 1, 32))
    data[entry : entry + 12] = struct.pack("<HHII", 322, 4, 1, 60_000)
    entry = data.index(struct.pack("<HHI", 279, 4, 1))
    data[entry : entry + 12] = struct.pack("<HHII", 323, 4, 1, 60_000)
    with pytest.raises(PictureError, match="too large: 60000 x 60000"):
        decode_picture(bytes(data), LIMIT)


@pytest.mark.parametrize("how", ["profile", "zip", "international", "many", "plain"])
def test_png_with_large_texts_or_profile_is_sound(how):
    text = "".join(chr(65 + number % 26) for number in range(3_000_000))
    info, options = PngImagePlugin.PngInfo(), {}
    if how == "profile":
        options["icc_profile"] = bytes(range(256)) * 12_000
    elif how == "zip":
        info.add_text("comment", text, zip=True)
    elif how == "international":
        info.add_itxt("comment", text, zip=True)
    elif how == "many":
        for number in range(100):
            info.add_text(f"comment {number}", text[:900_000], zip=True)
    else:
        info.add_text("comment", text * 23)
    assert (decode(encode(NOISE, "PNG", pnginfo=info, **options)) == PIXELS).all()


def test_exif_data_in_a_compressed_text_is_kept():
    exif = Image.Exif()
    exif[0x0112] = 6
    block = exif.tobytes()
    info = PngImagePlugin.PngInfo()
    info.add_text("Raw profile type exif", f"\nexif\n{len(block):8}\n{block.hex()}\n", zip=True)
    info.add_text("comment", "x" * 3_000_000, zip=True)
    assert decode(encode(NOISE, "PNG", pnginfo=info)).shape == (40, 32, 3)


def test_kind_of_a_known_format_that_is_not_supported_is_named():
    with pytest.raises(PictureError, match="a kind of TIFF that is not supported"):
        decode_picture(encode_tiff(GREY.astype("f8")), LIMIT)


def test_what_pillow_logs_of_a_broken_file_does_not_reach_the_terminal():
    data = bytearray(encode_tiff(np.zeros((8, 8), "u1")))
    entry = data.index(struct.pack("<HHI", 277, 4, 1))
    data[entry : entry + 12] = struct.pack("<HHII", 277, 4, 1, 99)  # samples a pixel
    script = (
        "import sys\nfrom data_cards.core.errors import PictureError\n"
        "from data_cards.image.decode import decode_picture\n"
        "try: decode_picture(sys.stdin.buffer.read(), 1000)\nexcept PictureError: pass\nelse: sys.exit(1)"
    )
    done = subprocess.run([sys.executable, "-c", script], input=bytes(data), capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")


def test_compressed_data_of_a_text_that_is_broken_does_not_hang():
    body = b"comment\0\0" + zlib.compress(bytes(5_000_000))[:100]
    chunk = struct.pack(">I", len(body)) + b"zTXt" + body + struct.pack(">I", zlib.crc32(b"zTXt" + body))
    data = encode(NOISE, "PNG")
    assert (decode(data[:33] + chunk + data[33:]) == PIXELS).all()


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_heic_is_decoded_upright_with_the_extra(orientation):
    pillow_heif = pytest.importorskip("pillow_heif", reason="the extra heif is not installed")
    smooth = draw_noise(5, 160, 128).resize((40, 32)).resize((160, 128))
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "A camera"
    # The file keeps the orientation twice: in its own box, by which it is turned, and in its EXIF data.
    file, picture = io.BytesIO(), smooth.copy()
    picture.info["exif"] = exif.tobytes()
    pillow_heif.register_heif_opener()
    picture.save(file, "HEIF", quality=95)
    upright = {1: None, 3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_270, 8: Image.Transpose.ROTATE_90}
    expected = smooth if upright[orientation] is None else smooth.transpose(upright[orientation])
    pixels = decode(file.getvalue())
    assert pixels.shape == np.asarray(expected).shape
    assert np.abs(pixels - np.asarray(expected).astype(int)).mean() < 6
    facts = compute_facts(file.getvalue(), b"", LIMIT)
    assert (facts.format, facts.camera) == ("HEIF", True)
    with pytest.raises(PictureError, match="broken"):
        decode_picture(file.getvalue()[:-2000], LIMIT)


def test_heic_without_the_extra_is_refused_by_name(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(PictureError, match=r"HEIC needs pillow-heif: `.*install.*heif"):
        decode_picture(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40), LIMIT)


ANIMATED = {"save_all": True, "append_images": [NOISE.transpose(Image.Transpose.ROTATE_180)]}
SMALL = NOISE.resize((NOISE.width // 2, NOISE.height // 2))


@pytest.mark.parametrize(
    ("data", "unused"),
    [
        *((encode(NOISE, kind, **ANIMATED), FRAMES) for kind in ("GIF", "WEBP", "PNG", "AVIF")),
        *((encode(NOISE, kind), "") for kind in ("GIF", "WEBP", "PNG", "AVIF", "TIFF", "JPEG", "ICO")),
        (encode(NOISE, "TIFF", **ANIMATED), PAGES),
        (encode(NOISE, "TIFF", save_all=True, append_images=[SMALL]), ""),  # a smaller version of the picture
        (encode(SMALL, "TIFF", save_all=True, append_images=[NOISE]), ""),
        (encode(NOISE, "MPO", **ANIMATED), ""),  # as telephones add a map of brightness
    ],
)
def test_further_pictures_of_a_file_are_named(data, unused):
    facts = compute_facts(data, b"", LIMIT)
    assert facts.unused == unused
    assert ("unused" in facts.to_dict()) == bool(unused)
    assert PictureFacts.from_dict(facts.to_dict()) == facts
    picture, remarks = decode_with_remarks(data, LIMIT)
    assert picture.tobytes() == decode_picture(data, LIMIT).tobytes()
    assert remarks == ((format_unused(unused),) if unused else ())


@pytest.mark.parametrize(
    ("transparent", "remarks"), [(0.25, ("transparent areas (25%) are filled with white",)), (0, ())]
)
def test_transparency_of_a_file_is_named(transparent, remarks):
    picture = NOISE.convert("RGBA").resize((40, 40))
    picture.paste((0, 0, 0, 0), (0, 0, int(40 * transparent), 40))
    assert decode_with_remarks(encode(picture, "PNG"), LIMIT)[1] == remarks


def test_scan_counts_files_with_further_pictures_once(tmp_path, capsys):
    for number, (name, data) in enumerate(
        {
            "a.gif": encode(NOISE, "GIF", **ANIMATED),
            "b.webp": encode(NOISE, "WEBP", **ANIMATED),
            "c.png": encode(NOISE, "PNG"),
        }.items()
    ):
        folder = tmp_path / ("real", "fake")[number % 2]
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    scan_sources([str(tmp_path)], max_pixels=LIMIT, cache=False)
    lines = [line for line in capsys.readouterr().err.splitlines() if "the first is used" in line]
    assert lines == ["2 files with several pictures or frames, of which only the first is used"]
