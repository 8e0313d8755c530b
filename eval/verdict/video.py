"""Frames of clips, evenly over their length, as upright 8-bit RGB. Needs PyAV, an optional extra.

A clip is as untrusted as a picture. Only a few containers, recognised by their first bytes, are read, so that no
playlist is followed and no other file is opened; pixels and decoded frames are bounded.
"""

from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from typing import BinaryIO

from PIL import Image

from data_cards.core.errors import PictureError
from data_cards.core.extras import format_install
from data_cards.image.bounds import check_pixels

MOST_FRAMES = 64
MOST_DECODED = 5000  # frames of a clip, both judged and decoded to reach judged ones

_MOST_PACKETS = 1_000_000  # counted if a clip does not state its length
_STEP_OVER = 2.0  # seconds; seek to a frame further ahead, decode up to a nearer one
_STILL_BRANDS = (b"avif", b"avis", b"mif1", b"msf1", b"heic", b"heix", b"hevc", b"hevx")
_TURNS = {
    90: Image.Transpose.ROTATE_90,
    180: Image.Transpose.ROTATE_180,
    -180: Image.Transpose.ROTATE_180,
    -90: Image.Transpose.ROTATE_270,
}

CONTAINER_START = 512  # first bytes of a file, which identify its container


def find_container(start: bytes) -> str | None:
    """Return FFmpeg's name of a clip's container by the first `CONTAINER_START` bytes; None if it is not a clip."""
    if start[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return None if start[4:8] == b"ftyp" and start[8:12] in _STILL_BRANDS else "mov"
    if start[:4] == b"RIFF" and start[8:12] == b"AVI ":
        return "avi"
    if start[0:1] == start[188:189] == start[376:377] == b"\x47" and not start.startswith(b"GIF8"):
        return "mpegts"
    starts = {
        b"\x1a\x45\xdf\xa3": "matroska",
        b"OggS": "ogg",
        b"FLV\x01": "flv",
        b"\0\0\x01\xba": "mpeg",
        b"\x30\x26\xb2\x75": "asf",
    }
    return starts.get(start[:4])


def read_frames(file: BinaryIO, count: int, max_pixels: int) -> Iterator[tuple[float, Image.Image]]:
    """Yield the middle frame of each of `count` equal parts of an open clip; fewer if the clip has fewer frames.

    Yields
    ------
    tuple of float, seconds from the clip's beginning, and PIL.Image.Image, the frame

    Raises
    ------
    PictureError : PyAV is not installed, the file is not a clip or is broken, or its frames are too large
    """
    try:
        import av
    except ImportError as error:
        raise PictureError(f"a clip; reading clips needs PyAV: `{format_install('video')}`") from error
    av.logging.set_level(av.logging.PANIC)  # its messages on untrusted files are not for the user
    form = find_container(file.read(512))
    try:
        with _open(file, form, max_pixels) as clip:
            length = _find_length(clip) or _measure_length(clip)
        with _open(file, form, max_pixels) as clip:
            yield from _pick_frames(
                clip, [float(length * (2 * one + 1) / (2 * count)) for one in range(count)], max_pixels
            )
    except av.FFmpegError as error:
        raise PictureError(f"broken or truncated clip: {error.strerror}") from error
    except MemoryError as error:
        raise PictureError("too large to decode in the available memory") from error


def _open(file: BinaryIO, form: str | None, max_pixels: int):
    import av

    if form is None:
        raise PictureError("not a clip in a known container (MP4, MOV, MKV, WebM, AVI, MPEG, Ogg, FLV, ASF)")
    file.seek(0)
    clip = av.open(file, "r", format=form, metadata_errors="ignore", container_options={"protocol_whitelist": "none"})
    if not clip.streams.video:
        clip.close()
        raise PictureError("a clip without pictures")
    stream = clip.streams.video[0]
    if stream.codec_context is None:
        clip.close()
        raise PictureError("a clip in an unknown codec")
    check_pixels(stream.codec_context.width, stream.codec_context.height, max_pixels)
    stream.codec_context.options = {"max_pixels": str(max_pixels)}
    return clip


def _find_length(clip) -> Fraction | None:
    """Return the length in seconds that the clip states; None if it states none."""
    stream = clip.streams.video[0]
    if stream.duration and stream.time_base:
        return max(stream.duration * stream.time_base, Fraction(0)) or None
    return Fraction(clip.duration, 1_000_000) if clip.duration and clip.duration > 0 else None


def _measure_length(clip) -> Fraction:
    stream = clip.streams.video[0]
    first = last = None
    for number, packet in enumerate(clip.demux(stream)):
        if number >= _MOST_PACKETS:
            break
        if packet.pts is not None:
            first = packet.pts if first is None else min(first, packet.pts)
            last = packet.pts + (packet.duration or 0) if last is None else max(last, packet.pts)
    if first is None or last is None or not stream.time_base:
        raise PictureError("a clip without pictures")
    return max(last - first, 1) * stream.time_base


def _pick_frames(clip, times: list[float], max_pixels: int) -> Iterator[tuple[float, Image.Image]]:
    """Yield the frame shown at each of the times, in seconds from the beginning; the same frame only once."""
    reader = _Reader(clip, max_pixels)
    last = None
    for time in times:
        shown = reader.find(time)
        if shown is not None and shown is not last:
            last = shown
            yield max(shown[0], 0.0), _rotate_upright(shown[1])
    if last is None:
        raise PictureError("broken or truncated clip: none of its frames can be decoded")


class _Reader:
    """Reads the frames of an open clip, in the order of the seconds at which they are shown."""

    def __init__(self, clip, max_pixels: int):
        self.clip, self.stream, self.max_pixels = clip, clip.streams.video[0], max_pixels
        self.frames = clip.decode(self.stream)
        self.shown = self.ahead = None
        self.decoded = 0
        begin, base = self.stream.start_time, self.stream.time_base
        self.start = float(begin * base) if begin and base else 0.0

    def find(self, time: float):
        """Return the frame shown at `time`, which must not decrease from call to call; None if there is none."""
        if time - (self.shown[0] if self.shown else 0) > _STEP_OVER:
            self._seek(time)
        while True:
            self.ahead = self.ahead or self._decode()
            if self.ahead is None or (self.ahead[0] > time and self.shown is not None):
                return self.shown
            self.shown, self.ahead = self.ahead, None

    def _seek(self, time: float) -> None:
        import av

        with suppress(av.FFmpegError):  # not every clip can seek; then decoding reaches the frame
            self.clip.seek(int((time + self.start) * 1_000_000), backward=True)
            self.frames, self.ahead = self.clip.decode(self.stream), None

    def _decode(self):
        import av

        while self.decoded < MOST_DECODED:
            self.decoded += 1
            try:
                frame = next(self.frames)
            except StopIteration:
                return None
            except av.FFmpegError:
                self.frames = self.clip.decode(self.stream)  # packets after a broken one may be intact
                continue
            check_pixels(frame.width, frame.height, self.max_pixels)
            untimed = self.decoded / float(self.stream.average_rate or 25)
            return (untimed if frame.time is None else frame.time - self.start), frame
        return None


def _rotate_upright(frame) -> Image.Image:
    picture = frame.to_image().convert("RGB")
    turn = _TURNS.get(frame.rotation)
    return picture if turn is None else picture.transpose(turn)
