"""Host, origin and token checks: the page answers only its own requests, from this computer or with the token.

A foreign site can point a name of its own at 127.0.0.1 (DNS rebinding) or post to the page (cross-site requests).
The Host header reveals the first: it must be an address or this computer's own name. The Origin header reveals the
second. Starlette's TrustedHostMiddleware compares with a list of names, so it cannot admit every address.
The first request has the token in its address, later ones have it in a cookie, so that it does not remain in a copied
address.
"""

import hmac
import ipaddress
import socket
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, RedirectResponse, Response
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


TOKEN = "token"  # in the address of the page


class Guard:
    """Middleware that refuses foreign requests, and adds the headers to every response.

    Parameters
    ----------
    token : str or None, admits other computers that give it; None admits loopback addresses only
    """

    def __init__(self, application: ASGIApp, token: str | None = None):
        self.application = application
        self.token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.application(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", []), *added]}
            await send(message)

        response = self._refuse(scope["method"], HTTPConnection(scope)) or self.application
        await response(scope, receive, send_with_headers)

    def _refuse(self, method: str, request: HTTPConnection) -> Response | None:
        """Return the response to a request that is refused; None if it is not."""
        headers = request.headers
        host = headers.get("host", "")
        if not is_own_host(host, self.token is not None):
            return _refusal("unknown host name; use an address of this computer")
        origin = headers.get("origin")
        foreign = (origin is not None and origin != f"http://{host}") or headers.get(
            "sec-fetch-site", "same-origin"
        ) not in ("same-origin", "none")
        if method not in ("GET", "HEAD") and foreign:
            return _refusal("sent by another site")
        return None if self.token is None else self._refuse_without_token(request)

    def _refuse_without_token(self, request: HTTPConnection) -> Response | None:
        cookie = f"page-{TOKEN}-{(request.scope.get('server') or ('', 0))[1]}"  # a browser sends it to every port
        given = request.query_params.get(TOKEN)
        if given is not None and self._is_token(given):
            if request.url.path != "/":
                return None
            response = RedirectResponse("/", 303)
            response.set_cookie(cookie, given, path="/", httponly=True, samesite="lax")
            return response
        if self._is_token(request.cookies.get(cookie, "")):
            return None
        return _refusal(f"no valid {TOKEN}; open the address that `page` printed, which ends with it")

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(errors="replace"), self.token.encode())


def _refusal(reason: str) -> JSONResponse:
    return JSONResponse({"error": f"refused: {reason}"}, 403)


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
