"""Verdicts on any number of files.

Worker processes read and decode files and compute their features; this process scores them. Verdicts are yielded one
by one, in the order of the files, and the memory for features is bounded. Features are a pure function of a file, so
the verdicts are the same to the last bit for any number of workers.
"""

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from data_cards.archives.place import open_place
from data_cards.core.console import progress_bar
from data_cards.core.cores import count_cores
from data_cards.core.errors import PictureError, UsageError
from data_cards.core.files import hash_file, read_bounded
from data_cards.core.value_types import converts_arguments
from data_cards.image.damage import may_hide_damage
from data_cards.image.decode import decode_with_remarks
from eval.settings import PredictSettings
from eval.verdict.decide import (
    CHECKS,
    Judgement,
    Views,
    compute_views,
    decide,
    decide_clip,
    doubt_blank_areas,
    score_views,
)
from eval.verdict.inputs import VIDEO_SUFFIXES, Input, find_inputs
from eval.verdict.metadata import Declaration, read_declarations
from eval.verdict.video import CONTAINER_START, MOST_FRAMES, find_container, read_frames
from eval.verdict.wording import format_never, format_reason
from pipeline.execution.processes import map_in_processes
from pipeline.features.fit import MOST_CROPS
from pipeline.features.profile_vectors import PROFILE_LENGTH
from pipeline.features.settings import FeatureSettings
from pipeline.features.variants import Variant
from train.model.detector import Detector, Scores
from train.run.folder import Run, load_detector

_BYTES_AHEAD = 1 << 30  # of features that wait for the network
_FILES_PER_WORKER = 8  # at least: starting a worker takes as long as judging four pictures of a megapixel
_LOST = "its worker process was killed, most likely because memory ran out; give fewer --workers, or a smaller copy"


@dataclass(frozen=True)
class Frame:
    """One frame of a clip: the second at which it is shown, and its verdict."""

    second: float
    judgement: Judgement


@dataclass(frozen=True)
class Verdict:
    """The verdict on one file, or the error that prevented it.

    Attributes
    ----------
    path : str, as given, or as found in a folder or by a glob
    judgement : Judgement or None, None if the file cannot be judged
    declared : tuple of Declaration, what the file declares; not verified, not used in the judgement
    frames : tuple of Frame, of a clip, in order
    remarks : tuple of str, parts of the file that were not used for the verdict, or that were filled in
    error : str or None, why the file cannot be judged
    sha256 : str or None, 64 hexadecimal digits, of the file's bytes; None if they cannot be read
    """

    path: str
    judgement: Judgement | None = None
    declared: tuple[Declaration, ...] = ()
    frames: tuple[Frame, ...] = ()
    remarks: tuple[str, ...] = ()
    error: str | None = None
    sha256: str | None = None

    @property
    def verdict(self) -> str | None:
        """ "real", "fake" or "unsure"; None if the file cannot be judged."""
        return None if self.judgement is None else self.judgement.verdict

    @property
    def probability_fake(self) -> float | None:
        """The calibrated probability; None if the file cannot be judged."""
        return None if self.judgement is None else self.judgement.probability_fake

    def to_dict(self) -> dict:
        """Return JSON values: either those of the verdict, or the error."""
        if self.judgement is None:
            return {"path": self.path, "sha256": self.sha256, "error": self.error}
        said = self.judgement
        frames = [{"second": one.second, **_list_values(one.judgement)} for one in self.frames]
        return {
            "path": self.path,
            "sha256": self.sha256,
            **_list_values(said),
            "flips_under": list(said.flips),
            "unlike_after": list(said.unlike_after),
            "unsure_after": list(said.unsure_after),
            "crops": said.crops,
            "checks": said.checks,
            "parts": said.parts,
            "remarks": list(self.remarks),
            "declared_not_verified": [one.to_dict() for one in self.declared],
            **({"frames": frames} if frames else {}),
        }


def _list_values(said: Judgement) -> dict:
    """Return the values that a file and a frame of a clip have in JSON."""
    return {
        "verdict": said.verdict,
        "why": format_reason(said),
        "reason": said.reason,
        "probability_fake": said.probability_fake,
        "score_valid": said.has_valid_score,
    }


@dataclass(frozen=True)
class _Prepared:
    """A file that is ready to be scored: its features (of a clip, the features of its frames), or the error."""

    path: str
    views: tuple[Views, ...] = ()
    declared: tuple[Declaration, ...] = ()
    seconds: tuple[float, ...] = ()
    may_be_damaged: bool = False
    remarks: tuple[str, ...] = ()
    error: str | None = None
    sha256: str | None = None


@converts_arguments
def predict_files(run: Run, paths: Iterable[str | Path], *, progress: bool = True, **options: object) -> list[Verdict]:
    """Judge files, also files in folders or matched by globs, in the given order.

    Parameters
    ----------
    run : Run, whose detector and feature settings are used
    paths : iterable of str or Path, as in `eval.verdict.inputs.find_inputs`
    progress : bool, show a bar on stderr
    options : as in `iterate_verdicts`
    """
    return list(iterate_verdicts(run, find_inputs(paths), progress=progress, **options))


@converts_arguments
def iterate_verdicts(
    run: Run,
    inputs: Sequence[Input],
    *,
    device: str = PredictSettings.device,
    batch_size: int = PredictSettings.batch_size,
    quick: bool = False,
    frames: int = PredictSettings.frames,
    max_pixels: int | None = None,
    workers: int | None = PredictSettings.workers,
    progress: bool = False,
    remark: Callable[[str], object] = lambda text: None,
) -> Iterator[Verdict]:
    """Yield the verdict on each file, in order; if a file cannot be judged, its `error` is set.

    Parameters
    ----------
    device : {"auto", "cpu", "cuda", "mps"}
    batch_size : int, samples that the network scores at a time
    quick : bool, skip `eval.verdict.decide.CHECKS`, each of which needs another set of features of each picture
    frames : int, frames of a clip that are judged, evenly over its length
    max_pixels : int or None, maximum number of pixels of a picture; None for the limit of the run's store
    workers : int or None, maximum number of worker processes, None for one a core; for 1, or for few files, none is
        started
    remark : callable(text), called at the first verdict if the detector never says "real" or "fake"

    Raises
    ------
    UserError : the weights are missing or damaged, or give no finite scores, or the workers do not start
    """
    check_options(batch_size, frames, workers)
    workers = min(workers or count_cores(), len(inputs) // _FILES_PER_WORKER)
    detector = load_detector(run, device)
    never = format_never(detector)
    settings = detector.choose_settings(run.build_settings.features)
    max_pixels = max_pixels or run.build_settings.max_pixels
    checks = () if quick else CHECKS
    prepare = _Preparation(settings, checks, frames, max_pixels, with_profile=detector.experts is not None)
    clips = any(Path(one.path).suffix.lower() in VIDEO_SUFFIXES for one in inputs)
    per_file = max(1 + len(checks), frames if clips else 0)
    if workers > 1:
        ahead = _count_ahead(settings, workers, batch_size, per_file)
        prepared = map_in_processes(prepare, inputs, _lose, workers=workers, ahead=ahead)
    else:
        prepared = map(prepare, inputs)
    with progress_bar(what="judging", unit="files", total=len(inputs), shown=progress and len(inputs) > 1) as bar:
        for one, scores in _score(detector, prepared, batch_size):
            verdict = _decide_file(one, scores, detector)
            if never and verdict.judgement is not None:
                remark(never)
                never = None
            yield verdict
            bar.update()


def check_options(
    batch_size: int, frames: int = PredictSettings.frames, workers: int | None = PredictSettings.workers
) -> None:
    """Raise `UsageError` if one of these options of `iterate_verdicts` is out of its range."""
    if batch_size < 1:
        raise UsageError(f"batch size {batch_size}: expected at least 1")
    if workers is not None and workers < 1:
        raise UsageError(f"workers {workers}: expected at least 1")
    if not 1 <= frames <= MOST_FRAMES:
        raise UsageError(f"frames {frames}: expected 1 to {MOST_FRAMES}")


@dataclass(frozen=True)
class _Preparation:
    """Prepares a file for scoring; can be sent to worker processes."""

    settings: FeatureSettings
    checks: tuple[Variant, ...]
    frames: int
    max_pixels: int
    with_profile: bool

    def __call__(self, one: Input) -> _Prepared:
        if one.error is not None:
            return _Prepared(one.path, error=one.error)
        sha256 = None
        try:
            with open_place(one.path) as file:
                if find_container(file.read(CONTAINER_START)) is None:
                    data = read_bounded(file)
                    sha256 = hashlib.sha256(data).hexdigest()
                    prepared = self._prepare_picture(one.path, data)
                else:
                    sha256 = hash_file(file)  # of any size, so it is not held in memory
                    prepared = self._prepare_clip(one.path, file)
        except PictureError as error:
            prepared = _Prepared(one.path, error=error.reason)
        return replace(prepared, sha256=sha256)

    def _prepare_picture(self, path: str, data: bytes) -> _Prepared:
        picture, remarks = decode_with_remarks(data, self.max_pixels)
        views = self._compute(picture, self.checks)
        declared = read_declarations(io.BytesIO(data))
        damaged = may_hide_damage(picture, data)
        return _Prepared(path, (views,), declared, may_be_damaged=damaged, remarks=remarks)

    def _prepare_clip(self, path: str, file: BinaryIO) -> _Prepared:
        file.seek(0)
        declared = read_declarations(file)
        file.seek(0)
        # No checks: the frames of a clip check each other, and each check would double the cost.
        frames = read_frames(file, self.frames, self.max_pixels)
        found = {second: self._compute(picture, ()) for second, picture in frames}
        remarks = (_format_few_frames(len(found), self.frames),) if len(found) < self.frames else ()
        return _Prepared(path, tuple(found.values()), declared, tuple(found), remarks=remarks)

    def _compute(self, picture: Image.Image, checks: Sequence[Variant]) -> Views:
        return compute_views(picture, self.settings, checks, with_profile=self.with_profile)


def _format_few_frames(found: int, expected: int) -> str:
    return f"{found} frames instead of {expected}: the clip has no more, or the others could not be decoded"


def _lose(one: Input) -> _Prepared:
    return _Prepared(one.path, error=_LOST)


def _count_ahead(settings: FeatureSettings, workers: int, batch_size: int, per_file: int) -> int:
    """Return the number of files to prepare ahead: enough for the next batches, bounded in bytes."""
    crops = MOST_CROPS if settings.fit == "crop" else 1
    bytes_each = per_file * (crops * settings.planes * settings.side**2 + 4 * PROFILE_LENGTH)
    return max(workers, min(workers + 2 * batch_size, _BYTES_AHEAD // bytes_each))


def _score(
    detector: Detector, prepared: Iterable[_Prepared], batch_size: int
) -> Iterator[tuple[_Prepared, list[Scores]]]:
    """Yield each file with the scores of its views; several files share a network's batches.

    Without a network, each file is scored alone, so that its score does not depend on the other files, to the last bit.
    """
    group, samples = [], 0
    for one in prepared:
        group.append(one)
        samples += sum(len(part) for views in one.views for part in views.levels)
        if detector.plane_detector is None or max(samples, len(group)) >= batch_size:
            yield from _score_group(detector, group, batch_size)
            group, samples = [], 0
    yield from _score_group(detector, group, batch_size)


def _score_group(
    detector: Detector, group: list[_Prepared], batch_size: int
) -> Iterator[tuple[_Prepared, list[Scores]]]:
    scores = iter(score_views(detector, [views for file in group for views in file.views], batch_size))
    for file in group:
        yield file, [next(scores) for _ in file.views]


def _decide_file(one: _Prepared, scores: list[Scores], detector: Detector) -> Verdict:
    if one.error is not None:
        return Verdict(one.path, error=one.error, sha256=one.sha256)
    limits = detector.calibration, detector.least_side
    said = [decide(part, views, *limits) for part, views in zip(scores, one.views, strict=True)]
    if not one.seconds:
        judgement, frames = doubt_blank_areas(said[0]) if one.may_be_damaged else said[0], ()
    else:
        judgement = decide_clip(said, detector.calibration)
        frames = tuple(Frame(second, frame) for second, frame in zip(one.seconds, said, strict=True))
    return Verdict(one.path, judgement, one.declared, frames, one.remarks, sha256=one.sha256)
