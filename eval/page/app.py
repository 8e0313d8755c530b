"""The page's application: three files of its own, and one address that judges a picture.

A picture comes as the body of a request and stays in memory: no name, no file. Its bytes and pixels are
bounded, it is decoded as any stranger's file, and one picture is judged at a time.
"""

import asyncio
import base64
import io
from pathlib import Path

from PIL import Image
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from data_cards.core.errors import PictureError, UserError
from data_cards.core.text import escape_untrusted
from data_cards.dataset.simulated import SIMULATION_NOTICE
from eval.page.guard import Guard
from eval.verdict.examine import Examined, Examiner
from eval.verdict.video import find_container
from eval.verdict.wording import (
    CAUTION,
    DECLARED_NOTE,
    TITLES,
    format_kind,
    format_reason,
    format_verdict,
    summarise_explanation,
)

MAX_UPLOAD = 64 << 20  # bytes
MOST_WAITING = 8  # pictures in memory, judged or waiting
PATIENCE = 60.0  # seconds for a picture to arrive

_STATIC = Path(__file__).parent / "static"
_FILES = {"/": "page.html", "/page.css": "page.css", "/page.js": "page.js"}
_THUMBNAIL = 480  # pixels, of the long side


def make_application(examiner: Examiner, open_to_others: bool = False) -> Guard:
    """The page for a run's detector.

    Parameters
    ----------
    open_to_others : other computers may ask too
    """
    waiting = asyncio.Semaphore(MOST_WAITING)
    turn = asyncio.Semaphore(1)

    async def judge(request: Request) -> Response:
        if waiting.locked():
            return _refuse("too many pictures at a time; try again in a moment", 503)
        async with waiting:
            try:
                async with asyncio.timeout(PATIENCE):
                    data = await _read_body(request)
            except (TimeoutError, ClientDisconnect):
                return _refuse("the picture did not arrive", 408)
            if data is None:
                return _refuse(f"too large: at most {MAX_UPLOAD >> 20} MB are taken", 413)
            async with turn:
                try:
                    return JSONResponse(await run_in_threadpool(_judge, examiner, data))
                except PictureError as error:
                    return _refuse(escape_untrusted(str(error)), 422)
                except UserError as error:
                    return _refuse(escape_untrusted(str(error)), 500)

    async def about(request: Request) -> Response:
        return JSONResponse(_describe(examiner))

    routes = [Route(path, _serve(name)) for path, name in _FILES.items()]
    routes += [Route("/about", about), Route("/judge", judge, methods=["POST"])]
    return Guard(Starlette(routes=routes), open_to_others)


def _serve(name: str):
    async def serve(request: Request) -> Response:
        return FileResponse(_STATIC / name)

    return serve


async def _read_body(request: Request) -> bytes | None:
    """The body, or None where it is larger than allowed; no more of it than that is ever kept."""
    length = request.headers.get("content-length", "0")
    if length.isascii() and length.isdigit() and int(length) > MAX_UPLOAD:
        return None
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > MAX_UPLOAD:
            return None
        parts.append(part)
    return b"".join(parts)


def _refuse(reason: str, status: int) -> JSONResponse:
    return JSONResponse({"error": reason}, status)


def _judge(examiner: Examiner, data: bytes) -> dict:
    if find_container(data[:512]) is not None:
        raise PictureError("a clip; the page takes pictures, clips are judged by `eval predict`")
    examined = examiner.examine(data)
    said, explanation = examined.judgement, examined.explanation
    return {
        "verdict": said.verdict,
        "title": TITLES[said.verdict],
        "words": format_verdict(said, examiner.calibration),
        "probability_fake": said.probability_fake,
        "why": format_reason(said),
        "crops": said.crops,
        "checks": said.checks,
        "declared": [one.to_dict() for one in examined.declared],
        "deciding": summarise_explanation(explanation, examined.estimator),
        "explanation": explanation.to_dict()
        | {"kinds": {format_kind(name, examined.estimator): value for name, value in explanation.kinds.items()}},
        "width": examined.picture.width,
        "height": examined.picture.height,
        "thumbnail": _make_thumbnail(examined),
    }


def _describe(examiner: Examiner) -> dict:
    calibration = examiner.calibration
    return {
        "run": escape_untrusted(str(examiner.run.path)),
        "notice": SIMULATION_NOTICE if examiner.simulated else None,
        "caution": CAUTION,
        "declared_note": DECLARED_NOTE,
        "low": calibration.low,
        "high": calibration.high,
        "most_bytes": MAX_UPLOAD,
        "profiles": None if examiner.spectra is None else examiner.spectra.to_dict(),
    }


def _make_thumbnail(examined: Examined) -> str:
    """The decoded picture, small, as a data address: the browser shows nothing that was not decoded here."""
    picture = examined.picture.copy()
    picture.thumbnail((_THUMBNAIL, _THUMBNAIL), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")
