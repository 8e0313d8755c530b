"""The metadata of a picture file or clip, cut out of its container: no pixel is decoded, nothing is obeyed.

Every walk is bounded in steps and bytes, and ends quietly where a file is broken: metadata is a side issue,
whether the picture itself can be read is told by its decoder.
"""

import io
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO

from PIL import Image

MOST_SEGMENTS = 4096  # that are walked over
MOST_BYTES = 4 << 20  # of a segment that are kept, and after decompression
MOST_TOTAL = 16 << 20  # of all segments together

_C2PA_UUID = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
_XMP_UUID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_XMP_HEADERS = (b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/\0")
_PNG = b"\x89PNG\r\n\x1a\n"
_TIFF_XMP, _TIFF_C2PA = 700, 52545


@dataclass(frozen=True)
class Segment:
    """A piece of metadata.

    Attributes
    ----------
    kind : "c2pa" (JUMBF boxes), "xmp", "exif" (a TIFF block) or "text"
    where : in what part of which container, such as "JPEG APP11"
    data : its bytes, without the container's header
    name : keyword of a text
    """

    kind: str
    where: str
    data: bytes
    name: str = ""


def read_segments(file: BinaryIO) -> list[Segment]:
    """The metadata of a picture or clip, from the beginning of an open file; empty where there is none."""
    start = file.read(16)
    file.seek(0)
    if start.startswith(b"\xff\xd8\xff"):
        found = _walk_jpeg(file)
    elif start.startswith(_PNG):
        found = _walk_png(file)
    elif start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        found = _walk_webp(file)
    elif start[4:8] in (b"ftyp", b"jP  "):
        found = _walk_boxes(file, still=start[8:12] in (b"avif", b"avis", b"mif1") or start[4:8] == b"jP  ")
    elif start[:4] in (b"II*\0", b"MM\0*") or start.startswith(b"GIF8"):
        found = _ask_pillow(file)
    else:
        found = iter(())
    return list(_bound(found))


def _bound(segments: Iterable[Segment]) -> Iterator[Segment]:
    left = MOST_TOTAL
    # Broken containers end the walk in many ways; what was found before it stands.
    with suppress(struct.error, EOFError, ValueError, OSError, zlib.error):
        for one in segments:
            left -= len(one.data)
            if left < 0:
                return
            yield one


def _read(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise EOFError
    return data


def _take(file: BinaryIO, length: int) -> bytes:
    """A segment's first bytes; the file then stands behind all of it."""
    data = _read(file, min(length, MOST_BYTES))
    file.seek(length - len(data), io.SEEK_CUR)
    return data


def _walk_jpeg(file: BinaryIO) -> Iterator[Segment]:
    """Marker segments up to the pixels; the boxes of APP11 are put together first."""
    _read(file, 2)
    boxes = []
    with suppress(EOFError, struct.error):
        for _ in range(MOST_SEGMENTS):
            mark, code = _read(file, 2)
            while mark == 0xFF and code == 0xFF:  # padding
                code = _read(file, 1)[0]
            if mark != 0xFF or code in (0xDA, 0xD9):
                break
            if code == 0x01 or 0xD0 <= code <= 0xD8:
                continue
            data = _take(file, max(struct.unpack(">H", _read(file, 2))[0] - 2, 0))
            if code == 0xEB and data[:2] == b"JP":
                # "JP", box number, packet number; the box's header is repeated in each packet.
                boxes.append(data[8:])
            elif code == 0xE1 and data.startswith(b"Exif\0\0"):
                yield Segment("exif", "JPEG APP1", data[6:])
            elif code == 0xE1:
                for header in _XMP_HEADERS:
                    if data.startswith(header):
                        yield Segment("xmp", "JPEG APP1", data[len(header) :])
    if boxes:
        yield Segment("c2pa", "JPEG APP11", b"".join(boxes))


def _walk_png(file: BinaryIO) -> Iterator[Segment]:
    _read(file, len(_PNG))
    for _ in range(MOST_SEGMENTS):
        length, kind = struct.unpack(">I4s", _read(file, 8))
        if kind == b"IEND":
            return
        if kind not in (b"caBX", b"eXIf", b"tEXt", b"zTXt", b"iTXt"):
            file.seek(length + 4, io.SEEK_CUR)
            continue
        data = _take(file, length)
        file.seek(4, io.SEEK_CUR)
        if kind in (b"caBX", b"eXIf"):
            yield Segment("c2pa" if kind == b"caBX" else "exif", f"PNG {kind.decode()}", data)
            continue
        keyword, _, text = data.partition(b"\0")
        name = keyword[:79].decode("latin-1")
        if kind == b"zTXt":
            text = _inflate(text[1:])
        elif kind == b"iTXt":
            compressed, (_, _, text) = text[:1] == b"\1", _split_international(text[2:])
            text = _inflate(text) if compressed else text
        yield Segment("xmp" if name == "XML:com.adobe.xmp" else "text", "PNG text", text, name)


def _split_international(text: bytes) -> tuple[bytes, bytes, bytes]:
    language, _, rest = text.partition(b"\0")
    translated, _, value = rest.partition(b"\0")
    return language, translated, value


def _inflate(data: bytes) -> bytes:
    return zlib.decompressobj().decompress(data, MOST_BYTES)


def _walk_webp(file: BinaryIO) -> Iterator[Segment]:
    _read(file, 12)
    kinds = {b"C2PA": "c2pa", b"EXIF": "exif", b"XMP ": "xmp"}
    for _ in range(MOST_SEGMENTS):
        kind, length = struct.unpack("<4sI", _read(file, 8))
        if kind in kinds:
            data = _take(file, length).removeprefix(b"Exif\0\0")
            yield Segment(kinds[kind], f"WebP {kind.decode().strip()}", data)
        else:
            file.seek(length, io.SEEK_CUR)
        file.seek(length % 2, io.SEEK_CUR)


def _walk_boxes(file: BinaryIO, still: bool) -> Iterator[Segment]:
    """Outermost boxes of an ISO file; a still picture's EXIF and XMP lie deeper and are asked of Pillow."""
    if still:
        yield from _ask_pillow(file)
        file.seek(0)
    for _ in range(MOST_SEGMENTS):
        length, kind = struct.unpack(">I4s", _read(file, 8))
        header = 8
        if length == 1:
            length, header = struct.unpack(">Q", _read(file, 8))[0], 16
        if kind == b"uuid":
            name = _read(file, 16)
            header += 16
            if name in (_C2PA_UUID, _XMP_UUID):
                found = file.read(MOST_BYTES if length == 0 else max(min(length - header, MOST_BYTES), 0))
                yield Segment("c2pa" if name == _C2PA_UUID else "xmp", "ISO box uuid", found)
                header += len(found)
        elif kind == b"jumb":
            found = file.read(MOST_BYTES if length == 0 else max(min(length - header, MOST_BYTES), 0))
            yield Segment("c2pa", "ISO box jumb", found)
            header += len(found)
        if length < header:  # 0: up to the end of the file; else broken
            return
        file.seek(length - header, io.SEEK_CUR)


def _ask_pillow(file: BinaryIO) -> Iterator[Segment]:
    """EXIF, XMP and C2PA of formats whose containers Pillow knows; it reads their headers only."""
    try:
        with Image.open(file, formats=("TIFF", "GIF", "AVIF", "JPEG2000")) as picture:
            form, info = picture.format or "", picture.info
            exif = picture.getexif()
            blocks = [("xmp", exif.get(_TIFF_XMP) or info.get("xmp")), ("c2pa", exif.get(_TIFF_C2PA))]
            blocks.append(("exif", exif.tobytes() if len(exif) else None))
    except Exception:  # as many kinds as there are decoders; the decoding itself tells what is wrong
        return
    for kind, block in blocks:
        if isinstance(block, str):
            block = block.encode("utf-8", "replace")
        if isinstance(block, bytes):
            yield Segment(kind, f"{form} metadata", block[:MOST_BYTES])
