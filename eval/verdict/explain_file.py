"""Files of `predict --explain`: the picture that is read, and the PNG that is written."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from data_cards.archives.place import open_place
from data_cards.core.errors import PictureError, UsageError, UserError
from data_cards.core.files import read_bounded, whole_file
from data_cards.core.split_paths import format_split_paths
from data_cards.dataset.simulated import SIMULATION_NOTICE
from eval.settings import PredictSettings
from eval.verdict.decide import CHECKS
from eval.verdict.examine import Examined, Examiner
from eval.verdict.explain_png import MARK, plot_examined
from eval.verdict.inputs import Input
from eval.verdict.predict import Verdict
from eval.verdict.video import CONTAINER_START, find_container
from eval.verdict.wording import format_caution


def check_explained(inputs: list[Input], out: str | Path, words: Sequence[str] = ()) -> Input:
    """Return the one picture to be explained.

    Parameters
    ----------
    words : sequence of str, the arguments that named the inputs, to recognise an unquoted path with spaces

    Raises
    ------
    UsageError : not exactly one picture, or `out` is not a name for the PNG
    """
    if len(inputs) != 1:
        advice = "; ".join(format_split_paths(words)) or "explain each in a command of its own"
        raise UsageError(f"--explain: expected one picture, got {len(inputs)}; {advice}")
    out = Path(out)
    if not out.parent.is_dir():
        raise UsageError(f"{out}: its folder does not exist; create it, or give another name")
    if out.suffix.lower() != ".png":
        raise UsageError(f"{out}: --explain writes a PNG; give a name that ends in .png")
    if out.exists() and not _is_ours(out):
        raise UsageError(f"{out}: already exists and was not written by --explain; give another name, or delete it")
    return inputs[0]


def examine_file(
    examiner: Examiner, one: Input, *, quick: bool = False, batch_size: int = PredictSettings.batch_size
) -> tuple[Verdict, Examined | None]:
    """Examine a picture file; its verdict equals that of `eval.verdict.predict.iterate_verdicts`.

    Parameters
    ----------
    quick, batch_size : as `iterate_verdicts`

    Returns
    -------
    verdict : Verdict, with its `error` set if the file cannot be judged
    examined : Examined or None, None if the file cannot be judged

    Raises
    ------
    UserError : the weights give no finite scores
    """
    data = None
    try:
        if one.error is not None:
            raise PictureError(one.error)
        with open_place(one.path) as file:
            if find_container(file.read(CONTAINER_START)) is not None:
                raise PictureError("a clip; --explain expects a picture; save one of the frames as PNG")
            data = read_bounded(file)
        examined = examiner.examine(data, () if quick else CHECKS, batch_size)
    except PictureError as error:
        sha256 = None if data is None else hashlib.sha256(data).hexdigest()
        return Verdict(one.path, error=error.reason, sha256=sha256), None
    found = examined.judgement, examined.declared
    return Verdict(one.path, *found, remarks=examined.remarks, sha256=examined.sha256), examined


def write_explanation(examiner: Examiner, path: str, examined: Examined, out: str | Path) -> None:
    """Write the plot of an examined picture as a PNG file; raise `UserError` if the file cannot be written."""
    notice = SIMULATION_NOTICE if examiner.simulated else None
    caution = format_caution(examiner.run)
    png = plot_examined(os.path.basename(path), examined, examiner.detector, examiner.spectra, notice, caution)
    try:
        with whole_file(Path(out)) as file:
            file.write_bytes(png)
    except FileNotFoundError as error:
        raise UserError(f"{out}: its folder does not exist; create it, or give another name") from error


def _is_ours(file: Path) -> bool:
    try:
        with Image.open(file, formats=("PNG",)) as picture:
            return picture.info.get("Software") == MARK
    except Exception:  # not a PNG: --explain did not write it
        return False
