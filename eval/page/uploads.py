"""Pictures sent to the page: bounded in bytes and time, together and for each client, and judged in fair turns.

While a picture arrives, only its received bytes count, and it is not in the queue yet. If memory is short, the upload
that has stalled longest is dropped.
"""

import asyncio
import ctypes
import os
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import ClientDisconnect, Request

MAX_UPLOAD = 64 << 20  # bytes
MOST_BYTES = 512 << 20  # of all pictures, arriving, queued and judged
MOST_BYTES_OF_CLIENT = 256 << 20
MOST_QUEUED = 32  # pictures that wait or are judged
MOST_QUEUED_OF_CLIENT = 8
STALL_SECONDS = 10.0  # without a byte
ARRIVAL_SECONDS = 60.0  # for a whole picture
TRIM_SECONDS = 1.0  # after the last picture

_LIBC = None if os.name == "nt" else ctypes.CDLL(None)
_BUSY = "too many pictures at a time; try again in a moment"


class UploadError(Exception):
    """A refused picture: the reason, and the HTTP status 408, 413 or 503."""

    def __init__(self, reason: str, status: int):
        super().__init__(reason)
        self.status = status


class _Upload:
    """A picture in memory; `dropped`: whether it was removed to make room for others.

    The bytes are one growing block, which is returned to the system as a whole; thousands of small parts would not be.
    """

    def __init__(self, client: str):
        self.client = client
        self.data = bytearray()
        self.size = 0
        self.last = asyncio.get_running_loop().time()
        self.deadline: asyncio.Timeout | None = None
        self.arriving = True
        self.dropped = False

    def drop(self) -> None:
        self.dropped, self.arriving, self.size = True, False, 0
        self.data = bytearray()
        self.deadline.reschedule(0)


class Uploads:
    """All pictures of an application."""

    def __init__(self) -> None:
        self._uploads: list[_Upload] = []
        self._turns = FairTurns()

    @asynccontextmanager
    async def judged_picture(self, request: Request) -> AsyncIterator[bytes]:
        """Receive the body of a request, wait for its turn, and keep both during the block.

        Raises
        ------
        UploadError : too large, too slow, too many, or the client disconnected
        """
        upload = _Upload(request.client.host if request.client else "")
        self._uploads.append(upload)
        try:
            self._check_queue(upload)
            data = await self._receive(request, upload)
            self._check_queue(upload)
            upload.arriving = False
            async with self._turns.turn(upload.client):
                if await request.is_disconnected():
                    raise UploadError("the client disconnected", 408)
                yield data
        finally:
            self._uploads.remove(upload)
            if not self._uploads:
                asyncio.get_running_loop().call_later(TRIM_SECONDS, self._trim_memory)

    def _trim_memory(self) -> None:
        """Return memory to the system after a burst of large pictures, because glibc keeps it."""
        if not self._uploads and hasattr(_LIBC, "malloc_trim"):
            _LIBC.malloc_trim(0)

    async def _receive(self, request: Request, upload: _Upload) -> bytes:
        length = request.headers.get("content-length", "0")
        if length.isascii() and length.isdigit() and int(length) > MAX_UPLOAD:
            raise _too_large()
        loop = asyncio.get_running_loop()
        end = loop.time() + ARRIVAL_SECONDS
        try:
            async with asyncio.timeout(STALL_SECONDS) as upload.deadline:
                async for part in request.stream():
                    if upload.size + len(part) > MAX_UPLOAD:
                        raise _too_large()
                    if upload.dropped:  # while more bytes arrived
                        raise TimeoutError
                    upload.data += part
                    upload.size += len(part)
                    upload.last = loop.time()
                    self._make_room(upload)
                    upload.deadline.reschedule(min(upload.last + STALL_SECONDS, end))
                if upload.dropped:
                    raise TimeoutError
        except (TimeoutError, ClientDisconnect) as error:
            if upload.dropped:
                raise UploadError(_BUSY, 503) from error
            raise UploadError("the picture did not arrive in time; try again", 408) from error
        data, upload.data = bytes(upload.data), bytearray()
        return data

    def _check_queue(self, upload: _Upload) -> None:
        queued = Counter(one.client for one in self._uploads if not one.arriving and not one.dropped)
        if queued.total() >= MOST_QUEUED or queued[upload.client] >= MOST_QUEUED_OF_CLIENT:
            raise UploadError(_BUSY, 503)

    def _make_room(self, upload: _Upload) -> None:
        """Drop the upload that has stalled longest, of the client with the most bytes, until the bounds are kept."""
        while True:
            held = Counter()
            for one in self._uploads:
                held[one.client] += one.size
            if held[upload.client] > MOST_BYTES_OF_CLIENT:
                crowd = upload.client
            elif held.total() > MOST_BYTES:
                crowd = held.most_common(1)[0][0]
            else:
                return
            stalled = [one for one in self._uploads if one.arriving and one.size and one.client == crowd]
            stalled = [one for one in stalled if one is not upload]
            if not stalled:
                raise UploadError(_BUSY, 503)
            min(stalled, key=lambda one: one.last).drop()


class FairTurns:
    """Gives one turn at a time, to waiting clients in rotation: a client with many pictures delays others by one."""

    def __init__(self) -> None:
        self._busy = False
        self._waiting: dict[str, deque[asyncio.Future]] = {}  # clients in the order of their next turns

    @asynccontextmanager
    async def turn(self, client: str) -> AsyncIterator[None]:
        if self._busy:
            mine = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(client, deque()).append(mine)
            try:
                await mine
            except asyncio.CancelledError:
                if not mine.cancelled():  # the turn was given at the same moment
                    self._pass_on()
                raise
        self._busy = True
        try:
            yield
        finally:
            self._pass_on()

    def _pass_on(self) -> None:
        while self._waiting:
            client, queue = next(iter(self._waiting.items()))
            del self._waiting[client]
            following = queue.popleft()
            if queue:
                self._waiting[client] = queue  # behind the others
            if not following.done():
                following.set_result(None)
                return
        self._busy = False


def _too_large() -> UploadError:
    return UploadError(f"too large; expected at most {MAX_UPLOAD >> 20} MB; `predict` judges larger files", 413)
