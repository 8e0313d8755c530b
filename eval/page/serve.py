"""Server of `page` on a port of this computer, until Ctrl-C."""

import errno
import ipaddress
import secrets
import socket
import threading
import webbrowser
from collections.abc import Callable
from contextlib import suppress

from data_cards.core.errors import UsageError, UserError
from data_cards.core.extras import format_install
from eval.settings import PageSettings
from train.run.folder import Run


def serve_page(
    run: Run,
    *,
    host: str = PageSettings.host,
    port: int = PageSettings.port,
    device: str = PageSettings.device,
    max_pixels: int | None = PageSettings.max_pixels,
    open_browser: bool = False,
    echo: Callable[[str], None] = print,
    warn: Callable[[str], None] = print,
) -> None:
    """Serve the page until it is interrupted.

    Parameters
    ----------
    host : str, address to listen at; if it is not a loopback address, other computers are admitted with the token in
        the page's address
    port : int, 0 to 65535; 0 chooses a free one
    max_pixels : int or None, maximum number of pixels of a picture; None for the limit of the run's store
    open_browser : bool, show the page in the browser
    echo, warn : callable(str), for the page's address, and for the warning

    Raises
    ------
    UserError : the extra is missing, the port is in use, or the run cannot be used
    """
    try:
        import uvicorn

        from eval.page.app import create_application
        from eval.page.connections import BoundedProtocol
        from eval.page.guard import TOKEN
    except ImportError as error:
        if error.name is None or error.name.split(".")[0] not in ("starlette", "uvicorn"):
            raise
        raise UserError(f"the page needs Starlette and uvicorn: `{format_install('page')}`") from error
    from eval.verdict.examine import Examiner

    with open_listener(host, port) as listener, suppress(KeyboardInterrupt):
        address, open_to_others = _address_of(listener), not _is_loopback(listener)
        token = secrets.token_urlsafe() if open_to_others else None
        if token is not None:
            address = f"{address}?{TOKEN}={token}"
        application = create_application(Examiner(run, device, max_pixels), token)
        config = uvicorn.Config(
            application, log_level="error", access_log=False, server_header=False, date_header=False,
            lifespan="off", ws="none", timeout_graceful_shutdown=1, http=BoundedProtocol,
        )  # fmt: skip
        if open_to_others:
            warn(
                f"everyone who can reach {host} and has the address below, with its token, can use this page; the "
                "connection is not encrypted"
            )

        class Server(uvicorn.Server):
            async def startup(self, sockets: list[socket.socket] | None = None) -> None:
                await super().startup(sockets)
                echo(f"page: {address} (Ctrl-C ends it)")  # from now on, Ctrl-C ends it without a message
                if open_browser:
                    threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()

        Server(config).run(sockets=[listener])


def open_listener(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65535:
        raise UsageError(f"port {port}: expected 0 to 65535")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise UserError(
            f"host {host}: not an address of this computer ({error}); give another --host, or omit it"
        ) from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        listener.close()
        if isinstance(error, PermissionError):
            raise UserError(f"port {port}: not permitted; give a --port of 1024 or more") from error
        if error.errno == errno.EADDRINUSE:
            raise UserError(
                f"port {port}: in use by another program; give another --port, or 0 for a free one"
            ) from error
        raise UserError(
            f"host {host}: not an address of this computer ({error.strerror}); give another --host, or omit it"
        ) from error
    return listener


def _is_loopback(listener: socket.socket) -> bool:
    return ipaddress.ip_address(listener.getsockname()[0].split("%")[0]).is_loopback


def _address_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    if ipaddress.ip_address(host.split("%")[0]).is_unspecified:
        host = "localhost"
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
