"""Plot of an examined picture as PNG: verdict on its scale, spectrum beside both classes', what decided."""

import io
import textwrap

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from data_cards.core.labels import CLASS_NAMES
from data_cards.core.text import escape_untrusted
from eval.explain.class_spectra import ClassSpectra
from eval.verdict.examine import Examined
from eval.verdict.wording import TITLES, format_kind, format_verdict, summarise_explanation
from pipeline.features.frequencies import MAX_FREQUENCY
from train.model.calibration import Calibration

MARK = "spectral-detector, eval predict --explain"  # in the PNG, so that only such a file is overwritten

_INK, _SOFT, _LINE = "#1d2327", "#59636b", "#d9d8d2"
_REAL, _FAKE = "#1f6f8b", "#c2571a"
# Of picture, words, scale, spectrum and bands: left, bottom, width and height, as shares of the figure.
_PLACES = (
    (0.04, 0.50, 0.42, 0.46),
    (0.51, 0.50, 0.46, 0.46),
    (0.04, 0.40, 0.92, 0.04),
    (0.08, 0.10, 0.39, 0.22),
    (0.56, 0.10, 0.40, 0.22),
)
_SIDE = 700  # of the shown picture, in pixels
_STYLE = {
    "font.size": 11,
    "axes.edgecolor": _LINE,
    "axes.labelcolor": _SOFT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "xtick.color": _SOFT,
    "ytick.color": _SOFT,
    "text.color": _INK,
    "text.parse_math": False,  # names of files are no formulas
    "legend.frameon": False,
}


def plot_examined(
    name: str, examined: Examined, calibration: Calibration, spectra: ClassSpectra | None, notice: str | None = None
) -> bytes:
    """Plot an examined picture; return the bytes of a PNG.

    Parameters
    ----------
    name : str, of the file
    notice : str or None, printed above all else
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(11, 10.6), facecolor="white")
        FigureCanvasAgg(figure)
        shown, words, scale, spectrum, bands = (figure.add_axes(place) for place in _PLACES)
        small = examined.picture.copy()
        small.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
        shown.imshow(np.asarray(small))
        shown.set_axis_off()
        shown.set_anchor("NW")
        shown.set_title(_shorten(escape_untrusted(name)))
        _plot_words(words, examined, calibration, notice)
        _plot_scale(scale, examined, calibration)
        _plot_spectrum(spectrum, examined, spectra)
        _plot_bands(bands, examined)
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=110, metadata={"Software": MARK})
        return file.getvalue()


def _shorten(name: str, most: int = 46) -> str:
    return name if len(name) <= most else f"…{name[1 - most :]}"


def _plot_words(axes: Axes, examined: Examined, calibration: Calibration, notice: str | None) -> None:
    axes.set_axis_off()
    said = examined.judgement
    colour = dict(zip(CLASS_NAMES, (_REAL, _FAKE), strict=True)).get(said.verdict, _INK)
    axes.text(0, 1, TITLES[said.verdict], size=22, weight="bold", color=colour, va="top")
    lines = [f"probability of being generated: {said.probability_fake:.1%}", format_verdict(said, calibration)]
    if said.crops > 1:
        lines.append(f"Judged on {said.crops} crops; what decided is shown for the middle one.")
    lines += summarise_explanation(examined.explanation, examined.estimator)
    if examined.declared:
        lines.append("Declared, not verified: " + "; ".join(dict.fromkeys(one.what for one in examined.declared)))
    if notice:
        lines.insert(0, notice)
    axes.text(0, 0.88, "\n\n".join(textwrap.fill(line, 62) for line in lines), va="top", linespacing=1.25, size=10.5)


def _plot_scale(axes: Axes, examined: Examined, calibration: Calibration) -> None:
    low, high, p = calibration.low, calibration.high, examined.judgement.probability_fake
    for start, end, colour in ((0, low, _REAL), (low, high, _LINE), (high, 1, _FAKE)):
        axes.axvspan(start, end, color=colour, alpha=0.75 if colour == _LINE else 0.28, lw=0)
    for start, end, text in ((0, low, "photograph"), (low, high, "unsure"), (high, 1, "generated")):
        if end - start > 0.09:
            axes.text((start + end) / 2, 0.5, text, ha="center", va="center", color=_SOFT)
    for one in examined.judgement.checks.values():
        axes.plot([one], [0.0], marker="|", ms=9, mew=1.6, color=_SOFT, clip_on=False)
    axes.plot([p], [1.08], marker="v", ms=13, color=_INK, clip_on=False)
    axes.set(xlim=(0, 1), ylim=(0, 1), yticks=[])
    axes.set_xlabel(
        "probability of being generated; the triangle is this picture"
        + (", the strokes are the same after JPEG or a crop" if examined.judgement.checks else "")
    )
    axes.spines["left"].set_visible(False)


def _plot_spectrum(axes: Axes, examined: Examined, spectra: ClassSpectra | None) -> None:
    if spectra is not None:
        for name, colour, label in zip(CLASS_NAMES, (_REAL, _FAKE), ("photographs", "generated"), strict=True):
            mean, width = spectra.mean[name], spectra.deviation[name]
            axes.fill_between(spectra.frequencies, mean - width, mean + width, color=colour, alpha=0.14, lw=0)
            axes.plot(spectra.frequencies, mean, color=colour, lw=1.8, label=label)
    axes.plot(examined.explanation.frequencies, examined.explanation.profile, color=_INK, lw=2, label="this picture")
    axes.set(
        xlim=(0, MAX_FREQUENCY),
        title="Spectrum",
        ylabel="strength, logarithmic",
        xlabel="coarse to fine, cycles per pixel",
    )
    if spectra is None:
        axes.set_title("Spectrum (those of the classes are not available)")
    axes.legend(loc="upper right")
    axes.grid(color=_LINE, alpha=0.6, lw=0.6)


def _plot_bands(axes: Axes, examined: Examined) -> None:
    explanation = examined.explanation
    widths, middles = np.diff(explanation.edges), (explanation.edges[1:] + explanation.edges[:-1]) / 2
    axes.bar(
        middles, explanation.bands, widths * 0.86, color=[_FAKE if value > 0 else _REAL for value in explanation.bands]
    )
    axes.axhline(0, color=_SOFT, lw=1)
    axes.set(xlim=(0, MAX_FREQUENCY), xlabel="coarse to fine, cycles per pixel", ylabel="log-odds")
    axes.set_title("What decided: up “generated”, down “photograph”")
    axes.grid(axis="y", color=_LINE, alpha=0.6, lw=0.6)
    kinds = ", ".join(
        f"{format_kind(name, examined.estimator)} {value:+.2f}" for name, value in explanation.kinds.items()
    )
    axes.figure.text(0.04, 0.02, f"By kind of planes: {kinds}.", size=10, color=_SOFT)
