"""The metadata of a picture file or clip, taken out of its container as bytes.

Pillow reads those of pictures. It does not know the content credentials of WebP and of ISO files (AVIF, JPEG 2000,
clips), whose outermost chunks and boxes are walked over here, bounded in steps and bytes. A broken file ends either
quietly: whether the picture can be read is told by its decoder.
"""

import io
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO

from PIL import Image, PngImagePlugin

MOST_SEGMENTS = 4096  # that are walked over
MOST_BYTES = 4 << 20  # of a segment that are kept, and after decompression
MOST_TOTAL = 16 << 20  # of all segments together

_C2PA_UUID = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
_XMP_UUID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_XMP_EXTENSION = b"http://ns.adobe.com/xmp/extension/\0"
_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "AVIF", "JPEG2000")
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
    found = [_ask_pillow(file)]
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        found.append(_walk_webp(file))
    elif start[4:8] in (b"ftyp", b"jP  "):
        found.append(_walk_boxes(file))
    return list(_bound(found))


def _bound(parts: Iterable[Iterable[Segment]]) -> Iterator[Segment]:
    left = MOST_TOTAL
    for segments in parts:
        # Broken containers end a walk in many ways; what was found before it stands.
        with suppress(struct.error, EOFError, ValueError, OSError):
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


def _walk_webp(file: BinaryIO) -> Iterator[Segment]:
    """Content credentials among the chunks of a WebP file."""
    file.seek(12)
    for _ in range(MOST_SEGMENTS):
        kind, length = struct.unpack("<4sI", _read(file, 8))
        if kind == b"C2PA":
            yield Segment("c2pa", "WebP C2PA", _take(file, length))
        else:
            file.seek(length, io.SEEK_CUR)
        file.seek(length % 2, io.SEEK_CUR)


def _walk_boxes(file: BinaryIO) -> Iterator[Segment]:
    """Content credentials and XMP among the outermost boxes of an ISO file."""
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
    """What Pillow finds in a picture's headers and, in a PNG, behind the pixels."""
    blocks: list[tuple[str, str, bytes | str | None]] = []
    try:
        with Image.open(file, formats=_FORMATS) as picture:
            if picture.format == "PNG":
                with suppress(Exception):  # of a damaged one what stands before the damage
                    picture.load()
            info, exif = picture.info, picture.getexif()
            blocks += [("xmp", "", info.get("xmp") or exif.get(_TIFF_XMP)), ("c2pa", "", exif.get(_TIFF_C2PA))]
            blocks.append(("exif", "", info.get("exif") or (exif.tobytes() if len(exif) else None)))
            packets = [data for name, data in getattr(picture, "applist", ()) if name in ("APP1", "APP11")]
            blocks += [("xmp", "", data) for data in packets if data.startswith(_XMP_EXTENSION)]
            # "JP", box number, packet number; the box's header is repeated in each packet.
            blocks.append(("c2pa", "", b"".join(data[8:] for data in packets if data.startswith(b"JP")) or None))
            chunks = getattr(picture, "private_chunks", ())
            blocks += [("c2pa", "", chunk[1]) for chunk in chunks if chunk[0] == b"caBX"]
            for name, text in info.items() if picture.format == "PNG" else ():
                if isinstance(text, str):
                    # Pillow reads all but international texts as Latin-1; many programs write UTF-8.
                    data = text.encode("utf-8" if isinstance(text, PngImagePlugin.iTXt) else "latin-1", "replace")
                    blocks.append(("xmp" if name == "XML:com.adobe.xmp" else "text", name, data))
            form = picture.format
    except Exception:  # as many kinds as there are decoders; the decoding itself tells what is wrong
        return
    for kind, name, block in blocks:
        if isinstance(block, str):
            block = block.encode("utf-8", "replace")
        if isinstance(block, bytes):
            what = "text" if kind == "text" else "metadata"
            yield Segment(kind, f"{form} {what}", block.removeprefix(b"Exif\0\0")[:MOST_BYTES], name)
