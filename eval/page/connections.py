"""Bounds on connections to the page: their number, the time to send a request's head, and the time to read an answer.

If there are too many connections, one of the client with the most is closed: the one that has waited longest for the
client. A connection whose picture is queued or judged is never closed for another.
"""

import asyncio
from collections import Counter

from uvicorn.protocols.http.h11_impl import H11Protocol

MOST = 64  # connections of all clients
MOST_OF_CLIENT = 16  # of one address; a browser opens six
HEAD_SECONDS = 10.0  # from the connection, or the last answer, to the end of a request's head
READ_SECONDS = 30.0  # a client that does not read for this time is disconnected

_BODY = b'{"error": "too many connections at a time; try again in a moment"}'
_REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 2\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%s" % (len(_BODY), _BODY)
)


class BoundedProtocol(H11Protocol):
    """uvicorn's HTTP protocol with these bounds; uvicorn bounds only keep-alive and the number of connections."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._head_timer = self._read_timer = None
        self._restart_head_timer()
        self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._head_timer, self._read_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self._awaits_head:
            self._waits_since = self.loop.time()  # a picture arrives; bytes of a head do not extend its time
        super().data_received(data)

    def on_response_complete(self) -> None:
        self._restart_head_timer()
        super().on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._read_timer = self.loop.call_later(READ_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None

    @property
    def _awaits_head(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    @property
    def _waits(self) -> bool:
        """Whether the connection waits for the client to send or to read more."""
        return self._awaits_head or self.cycle.more_body or self._read_timer is not None

    def _restart_head_timer(self) -> None:
        self._waits_since = self.loop.time()
        if self._head_timer is not None:
            self._head_timer.cancel()
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._end_without_head)

    def _end_without_head(self) -> None:
        if self._awaits_head:
            self.transport.abort()

    def _make_room(self) -> None:
        """Close a waiting connection if there are too many; close this connection if none waits."""
        open_ones = [one for one in self.connections if not one.transport.is_closing()]
        counts = Counter(one.client[0] for one in open_ones)
        if counts[self.client[0]] > MOST_OF_CLIENT:
            crowd = self.client[0]
        elif len(open_ones) > MOST:
            crowd = counts.most_common(1)[0][0]
        else:
            return
        waiting = [one for one in open_ones if one is not self and one.client[0] == crowd and one._waits]
        if waiting:
            min(waiting, key=lambda one: one._waits_since).transport.abort()
        else:
            self.transport.write(_REFUSAL)
            self.transport.close()
