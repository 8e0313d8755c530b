"""Metadata blocks of picture files and clips, as the bytes in their containers.

Pillow reads the blocks of pictures, except content credentials in WebP and ISO files (AVIF, JPEG 2000, clips). The
outermost chunks and boxes of these are read here, bounded in number and bytes. Reading stops at damage without an
error, because the decoder reports whether the picture can be read.
"""

import io
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO

from PIL import Image, PngImagePlugin

from data_cards.image.bounds import PNG, drop_large_texts, iterate_chunks

MOST_SEGMENTS = 4096  # chunks or boxes of a file
MOST_BYTES = 4 << 20  # kept of a segment, after decompression
MOST_TOTAL = 16 << 20  # of all segments together

_UUIDS = {  # of ISO boxes
    bytes.fromhex("d8fec3d61b0e483c92975828877ec481"): "c2pa",
    bytes.fromhex("be7acfcb97a942e89c71999491e3afac"): "xmp",
}
_XMP_EXTENSION = b"http://ns.adobe.com/xmp/extension/\0"
_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "AVIF", "JPEG2000", "HEIF")
_PNG_METADATA = (b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"caBX")
_TIFF_XMP, _TIFF_C2PA = 700, 52545


@dataclass(frozen=True)
class Segment:
    """One block of metadata.

    Attributes
    ----------
    kind : str, "c2pa" (JUMBF boxes), "xmp", "exif" (a TIFF block) or "text"
    where : str, container and part, such as "ISO box uuid"
    data : bytes, without the container's header
    name : str, keyword of a text
    """

    kind: str
    where: str
    data: bytes
    name: str = ""


def read_segments(file: BinaryIO) -> list[Segment]:
    """Read the metadata blocks of an open picture or clip, positioned at its beginning."""
    start = file.read(16)
    file.seek(0)
    parts = [_read_with_pillow(file)]
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        parts.append(_read_webp(file))
    elif start[4:8] in (b"ftyp", b"jP  "):
        parts.append(_read_boxes(file))
    return list(_limit(parts))


def _limit(parts: Iterable[Iterable[Segment]]) -> Iterator[Segment]:
    """Yield the segments up to `MOST_TOTAL` bytes; if a container is broken, those before the damage."""
    left = MOST_TOTAL
    for segments in parts:
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


def _read_segment(file: BinaryIO, length: int) -> bytes:
    """Read the first `MOST_BYTES` of a segment, and move to its end."""
    data = _read(file, min(length, MOST_BYTES))
    file.seek(length - len(data), io.SEEK_CUR)
    return data


def _read_webp(file: BinaryIO) -> Iterator[Segment]:
    """Yield content credentials among the chunks of a WebP file."""
    file.seek(12)
    for _ in range(MOST_SEGMENTS):
        kind, length = struct.unpack("<4sI", _read(file, 8))
        if kind == b"C2PA":
            yield Segment("c2pa", "WebP C2PA", _read_segment(file, length))
        else:
            file.seek(length, io.SEEK_CUR)
        file.seek(length % 2, io.SEEK_CUR)


def _read_boxes(file: BinaryIO) -> Iterator[Segment]:
    """Yield content credentials and XMP among the outermost boxes of an ISO file."""
    file.seek(0)
    for _ in range(MOST_SEGMENTS):
        length, kind = struct.unpack(">I4s", _read(file, 8))
        done = 8
        if length == 1:
            length, done = struct.unpack(">Q", _read(file, 8))[0], 16
        uuid = _read(file, 16) if kind == b"uuid" else b""
        done += len(uuid)
        content = "c2pa" if kind == b"jumb" else _UUIDS.get(uuid)
        if content is not None:
            data = file.read(MOST_BYTES if length == 0 else max(min(length - done, MOST_BYTES), 0))
            yield Segment(content, f"ISO box {kind.decode()}", data)
            done += len(data)
        if length < done:  # 0: the box ends with the file; else broken
            return
        file.seek(length - done, io.SEEK_CUR)


def _keep_metadata(data: bytes) -> bytes:
    """Return a PNG of one pixel with the metadata of another PNG, from before and after its pixels, up to damage."""
    parts, left = [_PNG_START], MOST_TOTAL
    for begin, end, kind in iterate_chunks(data):
        if kind in _PNG_METADATA and end - begin <= left:
            checksum = zlib.crc32(memoryview(data)[begin + 4 : end - 4])
            if checksum != int.from_bytes(data[end - 4 : end]):
                break
            left -= end - begin
            parts.append(data[begin:end])
    return drop_large_texts(b"".join((*parts, _PNG_END)))


def _pack_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


_PNG_START = PNG + _pack_chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
_PNG_END = _pack_chunk(b"IDAT", zlib.compress(b"\0\0")) + _pack_chunk(b"IEND", b"")


def _read_with_pillow(file: BinaryIO) -> Iterator[Segment]:
    """Yield the metadata that Pillow finds in a picture; in a PNG, also after the pixels."""
    start = file.read(len(PNG))
    file.seek(0)
    if start == PNG:
        file = io.BytesIO(_keep_metadata(file.read()))
    blocks: list[tuple[str, str, bytes | str | None]] = []
    try:
        # Pillow registers its own formats; HEIF is registered once a file of that kind has been decoded.
        formats = [form for form in _FORMATS if form != "HEIF" or form in Image.OPEN]
        with Image.open(file, formats=formats) as picture:
            if picture.format == "PNG":
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
            if picture.format in ("JPEG", "MPO", "GIF"):
                blocks.append(("text", "comment", info.get("comment")))
            for name, text in info.items() if picture.format == "PNG" else ():
                if isinstance(text, str):
                    # Pillow reads all but international texts as Latin-1; many programs write UTF-8.
                    data = text.encode("utf-8" if isinstance(text, PngImagePlugin.iTXt) else "latin-1", "replace")
                    blocks.append(("xmp" if name == "XML:com.adobe.xmp" else "text", name, data))
            form = picture.format
    except Exception:  # each decoder has its own errors; decoding the picture reports the damage
        return
    for kind, name, block in blocks:
        if isinstance(block, str):
            block = block.encode("utf-8", "replace")
        if isinstance(block, bytes):
            what = "text" if kind == "text" else "metadata"
            yield Segment(kind, f"{form} {what}", block.removeprefix(b"Exif\0\0")[:MOST_BYTES], name)
