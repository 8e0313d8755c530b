"""The page while other clients are slow, broken or hostile: real sockets, and a client that still gets its answer."""

import asyncio
import json
import socket
import threading
import time
from contextlib import ExitStack, contextmanager

import pytest

pytest.importorskip("starlette", reason="the page needs Starlette, the extra `page`")
uvicorn = pytest.importorskip("uvicorn", reason="the page needs uvicorn, the extra `page`")
httpx = pytest.importorskip("httpx", reason="no httpx to ask the page with")

from starlette.applications import Starlette  # noqa: E402
from starlette.responses import JSONResponse, Response  # noqa: E402
from starlette.routing import Route  # noqa: E402

from eval.page import connections, uploads  # noqa: E402
from eval.page.connections import BoundedProtocol  # noqa: E402
from eval.page.serve import open_listener  # noqa: E402
from eval.page.uploads import FairTurns, UploadError, Uploads  # noqa: E402

HEAD = "POST /judge HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n"


class Place:
    """An application that receives pictures as the page does; it judges them when `gate` is set."""

    def __init__(self):
        self.gate = threading.Event()
        self.gate.set()
        self.judged = []
        self.uploads = Uploads()

    async def judge(self, request):
        try:
            async with self.uploads.judged_picture(request) as data:
                while not self.gate.is_set():
                    await asyncio.sleep(0.01)
                self.judged.append(data)
                return JSONResponse({"bytes": len(data)})
        except UploadError as error:
            return JSONResponse({"error": str(error)}, error.status)

    async def large(self, request):
        return Response(b"x" * (64 << 20))

    @contextmanager
    def serve(self):
        application = Starlette(
            routes=[Route("/judge", self.judge, methods=["POST"]), Route("/large", self.large)],
        )
        with open_listener("127.0.0.1", 0) as listener:
            config = uvicorn.Config(application, log_level="error", lifespan="off", ws="none", http=BoundedProtocol)
            server = uvicorn.Server(config)
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
            thread.start()
            try:
                yield listener.getsockname()[1]
            finally:
                self.gate.set()
                server.should_exit = server.force_exit = True
                thread.join(30)


@pytest.fixture
def place():
    return Place()


@pytest.fixture
def port(place):
    with place.serve() as port:
        yield port


@pytest.fixture
def hold():
    """Open a connection, from an address of this computer, that sends some bytes and no more."""
    with ExitStack() as stack:

        def open_one(port, data, source="127.0.0.1"):
            one = stack.enter_context(socket.create_connection(("127.0.0.1", port), 30, source_address=(source, 0)))
            one.sendall(data if isinstance(data, bytes) else data.encode())
            return one

        yield open_one


def ask(port, data=b"abc"):
    return httpx.post(f"http://127.0.0.1:{port}/judge", content=data, timeout=30)


def read_answer(one):
    """Read a response to its end; gives status and JSON, or None where the connection was closed without one."""
    data = b""
    try:
        while b"\r\n\r\n" not in data or not data.endswith(b"}"):
            part = one.recv(65536)
            if not part:
                break
            data += part
    except ConnectionResetError:
        pass
    if not data:
        return None
    head, body = data.split(b"\r\n\r\n", 1)
    return int(head.split()[1]), json.loads(body)


@pytest.mark.parametrize("source", ["127.0.0.1", "127.0.0.2"])
@pytest.mark.parametrize(
    "data", [b"", b"POST /judge HTTP/1.1\r\nHost: loc", HEAD.format(1000), HEAD.format(1000) + "abc"]
)
def test_requests_that_never_end_leave_the_page_to_others(port, hold, data, source):
    for _ in range(100):
        hold(port, data, source)
    begun = time.monotonic()
    assert ask(port).json() == {"bytes": 3}
    assert time.monotonic() - begun < 5


def test_heads_that_trickle_are_closed_in_time(port, hold, monkeypatch):
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.5)
    assert trickle(hold(port, "GET /"), 20)
    # The body of a refused request is no way to stay.
    assert trickle(hold(port, "POST /absent HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000000\r\n\r\n"), 20)


def trickle(one, seconds):
    """Send a byte now and then; return whether the connection was closed in that time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            one.sendall(b"a")
        except OSError:
            return True
        time.sleep(0.05)
    return False


def test_uploads_that_stall_or_trickle_get_status_408(port, hold, monkeypatch):
    monkeypatch.setattr(uploads, "STALL_SECONDS", 0.3)
    assert read_answer(hold(port, HEAD.format(1000) + "abc"))[0] == 408
    monkeypatch.setattr(uploads, "STALL_SECONDS", 10)
    monkeypatch.setattr(uploads, "ARRIVAL_SECONDS", 0.5)
    slow = hold(port, HEAD.format(1000))
    slow.settimeout(0.05)
    for _ in range(200):
        slow.sendall(b"a")
        try:
            answer = slow.recv(1000)
            break
        except TimeoutError:
            continue
    assert b" 408 " in answer.splitlines()[0]


def test_client_that_does_not_read_is_closed(port, hold, monkeypatch):
    monkeypatch.setattr(connections, "READ_SECONDS", 0.5)
    stuck = hold(port, "GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
    time.sleep(2)
    read = 0
    try:
        while part := stuck.recv(1 << 20):
            read += len(part)
    except ConnectionResetError:
        pass
    assert read < 64 << 20


def test_queue_that_is_full_answers_503_as_json_and_recovers(place, port, hold):
    place.gate.clear()
    waiting = [hold(port, HEAD.format(3) + "abc") for _ in range(uploads.MOST_QUEUED_OF_CLIENT)]
    wait_until(lambda: len(place.uploads._uploads) == len(waiting) and place.uploads._turns._busy)
    time.sleep(0.2)
    response = ask(port)
    assert (response.status_code, response.json()["error"][:17]) == (503, "too many pictures")
    # Another client's is taken, and is next.
    other = hold(port, HEAD.format(5) + "other", "127.0.0.2")
    wait_until(lambda: len(place.uploads._uploads) == len(waiting) + 1)
    time.sleep(0.2)
    place.gate.set()
    assert read_answer(other) == (200, {"bytes": 5})
    assert [read_answer(one) for one in waiting] == [(200, {"bytes": 3})] * len(waiting)
    assert place.judged[:3] == [b"abc", b"abc", b"other"] or place.judged[:2] == [b"abc", b"other"]
    assert ask(port).status_code == 200


def test_connections_without_room_get_status_503_as_json(place, port, hold, monkeypatch):
    monkeypatch.setattr(connections, "MOST_OF_CLIENT", 2)
    place.gate.clear()
    waiting = [hold(port, HEAD.format(3) + "abc") for _ in range(2)]
    wait_until(lambda: len(place.uploads._uploads) == 2)
    time.sleep(0.2)
    response = ask(port)
    assert (response.status_code, response.json()["error"][:20]) == (503, "too many connections")
    place.gate.set()
    assert [read_answer(one)[0] for one in waiting] == [200, 200]


def test_uploads_above_the_memory_bound_make_room(place, port, hold, monkeypatch):
    monkeypatch.setattr(uploads, "MOST_BYTES_OF_CLIENT", 100_000)
    monkeypatch.setattr(uploads, "MOST_BYTES", 150_000)
    stalled = [hold(port, HEAD.format(90_000) + "a" * 40_000) for _ in range(2)]
    wait_until(lambda: sum(one.size for one in place.uploads._uploads) == 80_000)
    assert ask(port, b"a" * 90_000).json() == {"bytes": 90_000}
    assert [read_answer(one)[0] for one in stalled] == [503, 503]
    for source in ("127.0.0.2", "127.0.0.3"):  # together too much
        hold(port, HEAD.format(99_000) + "a" * 70_000, source)
    wait_until(lambda: sum(one.size for one in place.uploads._uploads) == 140_000)
    assert ask(port, b"a" * 60_000).json() == {"bytes": 60_000}


def test_pictures_of_clients_that_are_gone_are_not_judged(place, port, hold):
    place.gate.clear()
    first = hold(port, HEAD.format(5) + "first")
    wait_until(lambda: place.uploads._turns._busy)
    gone = hold(port, HEAD.format(4) + "gone")
    wait_until(lambda: len(place.uploads._uploads) == 2)
    gone.close()
    time.sleep(0.2)
    place.gate.set()
    assert read_answer(first)[0] == 200
    wait_until(lambda: not place.uploads._uploads)
    assert place.judged == [b"first"]


def test_turns_go_round_the_clients():
    async def take_turns():
        turns, order = FairTurns(), []

        async def one(client):
            async with turns.turn(client):
                order.append(client)
                await asyncio.sleep(0)

        tasks = [asyncio.create_task(one(client)) for client in "aaaabbc"]
        await asyncio.sleep(0)
        tasks[3].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        async with turns.turn("d"):  # free again
            return "".join(order)

    assert asyncio.run(take_turns()) == "aabcab"


def wait_until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
