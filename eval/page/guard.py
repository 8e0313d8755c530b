"""Host and origin checks of the page: only its own pages in a browser of this computer may send requests.

A foreign site can point a name of its own at 127.0.0.1 (DNS rebinding) or post to the page (cross-site requests).
The Host header reveals the first: it must be an address or this computer's own name. The Origin header reveals the
second. Starlette's TrustedHostMiddleware compares with a list of names, and cannot admit every address.
"""

import ipaddress
import socket
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Only the page's own three files, and thumbnails as data URLs, are loaded.
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


class Guard:
    """Middleware that refuses foreign requests, and adds the headers to every response.

    Parameters
    ----------
    open_to_others : bool, admit other computers; else loopback addresses only
    """

    def __init__(self, application: ASGIApp, open_to_others: bool = False):
        self.application = application
        self.open_to_others = open_to_others

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.application(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", []), *added]}
            await send(message)

        refusal = self._refuse(scope["method"], Headers(scope=scope))
        response = self.application if refusal is None else JSONResponse({"error": refusal}, 403)
        await response(scope, receive, send_with_headers)

    def _refuse(self, method: str, headers: Headers) -> str | None:
        host = headers.get("host", "")
        if not is_own_host(host, self.open_to_others):
            return "refused: the page is reached by this computer's address, not by another name"
        origin = headers.get("origin")
        foreign = (origin is not None and origin != f"http://{host}") or headers.get(
            "sec-fetch-site", "same-origin"
        ) not in ("same-origin", "none")
        if method not in ("GET", "HEAD") and foreign:
            return "refused: sent by another site"
        return None


def is_own_host(host: str, open_to_others: bool) -> bool:
    """Return whether a Host header names this computer by an address, as localhost, or, if open, by its own name."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name == "localhost" or (open_to_others and name == socket.gethostname().lower())
    return open_to_others or address.is_loopback
