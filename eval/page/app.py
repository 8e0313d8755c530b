"""Web application of the page: three static files, and the address /judge, which programs can call too.

A picture is the body of a request and stays in memory, without a name or a file. Its bytes and pixels are bounded,
it is decoded like any untrusted file, and one picture is judged at a time. Every error is JSON, `{"error": text}`.
"""

import base64
import io
from pathlib import Path

from PIL import Image
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from data_cards.core.errors import PictureError, UserError
from data_cards.core.text import escape_untrusted
from data_cards.dataset.simulated import SIMULATION_NOTICE
from data_cards.image.thumbnail import encode_thumbnail
from eval.explain.parts import PART_WORDS
from eval.page.guard import Guard
from eval.page.uploads import MAX_UPLOAD, UploadError, Uploads
from eval.verdict.examine import Examined, Examiner
from eval.verdict.video import CONTAINER_START, find_container
from eval.verdict.wording import (
    DECLARED_NOTE,
    SCORE_NOTE,
    TITLES,
    format_caution,
    format_kind,
    format_map_title,
    format_never,
    format_reason,
    format_verdict,
    summarise_examined,
)
from pipeline.features.versions import get_program_version
from train.run.locate import name_run

_STATIC = Path(__file__).parent / "static"
_FILES = {"/": "page.html", "/page.css": "page.css", "/page.js": "page.js"}
_THUMBNAIL = 480  # pixels, of the long side


def create_application(examiner: Examiner, token: str | None = None) -> Guard:
    """Create the application for a run's detector; a token admits other computers that give it."""
    uploads = Uploads()

    async def judge(request: Request) -> Response:
        if request.headers.get("content-type", "").startswith("multipart/"):
            return _error_response("a form; send the picture as the body: curl --data-binary @photo.jpg", 415)
        try:
            async with uploads.judged_picture(request) as data:
                return JSONResponse(await run_in_threadpool(_judge, examiner, data))
        except UploadError as error:
            return _error_response(str(error), error.status)
        except PictureError as error:
            return _error_response(escape_untrusted(error.reason), 422)
        except UserError as error:
            return _error_response(escape_untrusted(str(error)), 500)

    async def about(request: Request) -> Response:
        return JSONResponse(_get_about(examiner))

    routes = [Route(path, _serve(name)) for path, name in _FILES.items()]
    routes += [Route("/about", about), Route("/judge", judge, methods=["POST"])]
    return Guard(Starlette(routes=routes, exception_handlers={HTTPException: _answer_error}), token)


def _serve(name: str):
    async def serve(request: Request) -> Response:
        return FileResponse(_STATIC / name)

    return serve


async def _answer_error(request: Request, error: HTTPException) -> Response:
    """Answer an unknown address or method."""
    response = _error_response(
        f"{request.method} {escape_untrusted(request.url.path)}: {error.detail}", error.status_code
    )
    response.headers.update(error.headers or {})
    return response


def _error_response(reason: str, status: int) -> JSONResponse:
    return JSONResponse({"error": reason}, status, {"retry-after": "2"} if status == 503 else None)


def _judge(examiner: Examiner, data: bytes) -> dict:
    if find_container(data[:CONTAINER_START]) is not None:
        raise PictureError("a clip; expected a picture; `predict` judges clips too")
    examined = examiner.examine(data)
    said, explanation = examined.judgement, examined.explanation
    return {
        "verdict": said.verdict,
        "title": TITLES[said.verdict],
        "why": format_reason(said),
        "reason": said.reason,
        "words": format_verdict(said, examiner.detector),
        "probability_fake": said.probability_fake,
        "score_valid": said.has_valid_score,
        "flips_under": said.flips,
        "unlike_after": said.unlike_after,
        "unsure_after": said.unsure_after,
        "run": escape_untrusted(name_run(examiner.run)),
        "version": get_program_version(),
        "sha256": examined.sha256,
        "remarks": examined.remarks,
        "crops": said.crops,
        "checks": said.checks,
        "declared": [one.to_dict() for one in examined.declared],
        "deciding": summarise_examined(examined),
        "parts": {PART_WORDS[name]: value for name, value in said.parts.items()},
        "comb": examined.comb and _encode_comb(examined),
        "explanation": explanation
        and explanation.to_dict()
        | {"kinds": {format_kind(name, examined.estimator): value for name, value in explanation.kinds.items()}},
        "width": examined.picture.width,
        "height": examined.picture.height,
        # Made from the decoded picture: the browser shows nothing that was not decoded here.
        "thumbnail": encode_thumbnail(examined.picture, _THUMBNAIL, quality=85),
    }


def _encode_comb(examined: Examined) -> dict:
    """Return the spectrum above its background as a picture, and the teeth of a strong comb."""
    file = io.BytesIO()
    Image.fromarray(examined.comb.scale_excess()).save(file, "PNG")
    frequencies = examined.comb.frequencies.tolist() if examined.has_grid else []  # of the rings
    return {
        "map": f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}",
        "title": format_map_title(examined),
        "frequencies": frequencies,
    }


def _get_about(examiner: Examiner) -> dict:
    calibration = examiner.detector.calibration
    return {
        "run": escape_untrusted(name_run(examiner.run)),
        "notice": SIMULATION_NOTICE if examiner.simulated else None,
        "caution": format_caution(examiner.run),
        "never": format_never(examiner.detector),
        "declared_note": DECLARED_NOTE,
        "score_note": SCORE_NOTE,
        "low": calibration.band[0],
        "high": calibration.band[1],
        "most_bytes": MAX_UPLOAD,
        "profiles": None if examiner.spectra is None else examiner.spectra.to_dict(),
    }
