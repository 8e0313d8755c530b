"""Verdicts on files, many or few: the same features as the build's, the run's best network.

Files are read, decoded and made into features by threads, several batches ahead of the network, and
verdicts come out one by one in the order of the files: neither waits for the other, and memory holds
a bounded number of features however many files there are.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_cards.core.console import progress as show_progress
from data_cards.core.cores import count_cores
from data_cards.core.errors import PictureError, UsageError
from data_cards.core.files import open_regular, read_bounded
from data_cards.image.decode import decode_picture
from eval.defaults import BATCH_SIZE, FRAMES
from eval.verdict.decide import CHECKS, Judgement, Looks, decide, decide_clip, look_at, score_levels
from eval.verdict.inputs import VIDEO_SUFFIXES, Input, find_inputs
from eval.verdict.metadata import Declaration, read_declared, read_declared_file
from eval.verdict.video import MOST_FRAMES, find_container, read_frames
from eval.verdict.wording import format_reason
from pipeline.features.fit import MOST_CROPS
from pipeline.features.settings import FeatureSettings
from pipeline.features.variants import Variant
from pipeline.store.settings import BuildSettings
from train.model.detector import Detector
from train.run.folder import Run, load_detector

_BYTES_AHEAD = 1 << 30  # of features that wait for the network


@dataclass(frozen=True)
class Frame:
    """One frame of a clip: the second that it is shown at, and what is said of it."""

    second: float
    judgement: Judgement


@dataclass(frozen=True)
class Verdict:
    """What the detector says of one file.

    Attributes
    ----------
    path : as it was given, or found in a folder that was given
    judgement : None where the file cannot be judged
    declared : what the file says of itself: not verified, and no part of the judgement
    frames : of a clip, in order; a picture has none
    error : why it cannot be judged, else None
    """

    path: str
    judgement: Judgement | None = None
    declared: tuple[Declaration, ...] = ()
    frames: tuple[Frame, ...] = ()
    error: str | None = None

    @property
    def verdict(self) -> str | None:
        """ "real", "fake" or "unsure"; None where the file cannot be judged."""
        return None if self.judgement is None else self.judgement.verdict

    @property
    def probability_fake(self) -> float | None:
        """The calibrated probability; None where the file cannot be judged."""
        return None if self.judgement is None else self.judgement.probability_fake

    def as_json(self) -> dict:
        """Plain values: either what is said of it, or the error."""
        if self.judgement is None:
            return {"path": self.path, "error": self.error}
        said = self.judgement
        frames = [
            {"second": one.second, "verdict": one.judgement.verdict, "probability_fake": one.judgement.probability_fake}
            for one in self.frames
        ]
        return {
            "path": self.path,
            "verdict": said.verdict,
            "probability_fake": said.probability_fake,
            "why": format_reason(said),
            "reason": said.reason,
            "flips_under": list(said.flips),
            "crops": said.crops,
            "checks": said.checks,
            "declared_not_verified": [one.as_json() for one in self.declared],
            **({"frames": frames} if frames else {}),
        }


@dataclass(frozen=True)
class _Prepared:
    """A file on its way to the network: its features, or why there are none."""

    path: str
    looks: tuple[Looks, ...] = ()
    declared: tuple[Declaration, ...] = ()
    seconds: tuple[float, ...] = ()
    error: str | None = None


def predict_files(run: Run, paths: Iterable[str | Path], *, progress: bool = True, **options: object) -> list[Verdict]:
    """Judge files, and those in folders or matched by globs, in the order given.

    Parameters
    ----------
    run : whose best weights and feature settings are used
    paths : as `eval.verdict.inputs.find_inputs` takes them
    progress : show a bar on stderr
    options : as `iterate_verdicts` takes them
    """
    return list(iterate_verdicts(run, find_inputs(paths), progress=progress, **options))


def iterate_verdicts(
    run: Run,
    inputs: Sequence[Input],
    *,
    device: str = "auto",
    batch_size: int = BATCH_SIZE,
    quick: bool = False,
    frames: int = FRAMES,
    threads: int | None = None,
    progress: bool = False,
) -> Iterator[Verdict]:
    """Judge files one after the other; what cannot be judged has its `error` set.

    Parameters
    ----------
    device : "auto", "cpu", "cuda" or "mps"
    batch_size : samples that the network scores at a time
    quick : leave out `eval.verdict.decide.CHECKS`, which make three further sets of features of each picture
    frames : of a clip that are judged, evenly over its length
    threads : that make features; None: as many as there are processors

    Raises
    ------
    UserError : the weights are missing or damaged, or give no finite scores
    """
    check_options(batch_size, frames)
    detector = load_detector(run, device)
    threads = threads or count_cores()
    checks = () if quick else CHECKS
    clips = any(Path(one.path).suffix.lower() in VIDEO_SUFFIXES for one in inputs)
    looks = max(1 + len(checks), frames if clips else 0)
    ahead = _count_ahead(run.build_settings.features, threads, batch_size, looks)

    def prepare(one: Input) -> _Prepared:
        if one.error is not None:
            return _Prepared(one.path, error=one.error)
        try:
            return _prepare_file(one.path, run.build_settings, checks, frames)
        except PictureError as error:
            return _Prepared(one.path, error=str(error))

    with show_progress(what="judging", unit="files", total=len(inputs)) as bar:
        bar.disable = bar.disable or not progress or len(inputs) < 2
        prepared = _map_ahead(prepare, inputs, threads, ahead)
        for one, logits in _score(detector, prepared, batch_size):
            yield _conclude(one, logits, detector)
            bar.update()


def check_options(batch_size: int, frames: int = FRAMES) -> None:
    """Raise `UsageError` where these options of `iterate_verdicts` are out of their range."""
    if batch_size < 1:
        raise UsageError(f"batch size {batch_size}: expected at least 1")
    if not 1 <= frames <= MOST_FRAMES:
        raise UsageError(f"frames {frames}: expected 1 to {MOST_FRAMES}")


def _prepare_file(path: str, settings: BuildSettings, checks: Sequence[Variant], frames: int) -> _Prepared:
    with open_regular(path) as file:
        if find_container(file.read(512)) is None:
            data = read_bounded(file)
            picture = decode_picture(data, settings.max_pixels)
            return _Prepared(path, (look_at(picture, settings.features, checks),), read_declared(data))
        file.seek(0)
        declared = read_declared_file(file)
        file.seek(0)
        # A clip's frames check each other already, and each check would cost as much again.
        looks = {
            second: look_at(picture, settings.features, ())
            for second, picture in read_frames(file, frames, settings.max_pixels)
        }
        return _Prepared(path, tuple(looks.values()), declared, tuple(looks))


def _count_ahead(settings: FeatureSettings, threads: int, batch_size: int, looks: int) -> int:
    """How many files are prepared ahead: enough for the network's next batches, bounded in bytes."""
    crops = MOST_CROPS if settings.fit == "crop" else 1
    bytes_each = looks * crops * settings.planes * settings.side**2
    return max(2, min(threads + 2 * batch_size, _BYTES_AHEAD // bytes_each))


def _map_ahead(function, items: Iterable, threads: int, ahead: int) -> Iterator:
    """Results in the order of the items; at most `ahead` of them are under way or wait."""
    waiting: deque[Future] = deque()
    pool = ThreadPoolExecutor(min(threads, ahead))
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _score(
    detector: Detector, prepared: Iterable[_Prepared], batch_size: int
) -> Iterator[tuple[_Prepared, list[np.ndarray]]]:
    """Each file with the logits of each of its looks; samples of several files share the network's batches."""
    group, samples = [], 0
    for one in prepared:
        group.append(one)
        samples += sum(len(looks.levels) for looks in one.looks)
        if max(samples, len(group)) >= batch_size:
            yield from _score_group(detector, group, batch_size)
            group, samples = [], 0
    yield from _score_group(detector, group, batch_size)


def _score_group(
    detector: Detector, group: list[_Prepared], batch_size: int
) -> Iterator[tuple[_Prepared, list[np.ndarray]]]:
    levels = [looks.levels for file in group for looks in file.looks]
    logits = score_levels(detector, np.concatenate(levels), batch_size) if levels else np.zeros((0, 2))
    parts = iter(np.split(logits, np.cumsum([len(one) for one in levels])[:-1])) if levels else iter(())
    for file in group:
        yield file, [next(parts) for _ in file.looks]


def _conclude(one: _Prepared, logits: list[np.ndarray], detector: Detector) -> Verdict:
    if one.error is not None:
        return Verdict(one.path, error=one.error)
    said = [decide(part, looks, detector.calibration) for part, looks in zip(logits, one.looks, strict=True)]
    if not one.seconds:
        return Verdict(one.path, said[0], one.declared)
    frames = tuple(Frame(second, judgement) for second, judgement in zip(one.seconds, said, strict=True))
    return Verdict(one.path, decide_clip(said, detector.calibration), one.declared, frames)
