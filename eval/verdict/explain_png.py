"""Plot of an examined picture as PNG: the verdict on its scale, what decided, and the spectrum.

Texts are wrapped by their measured width, and the height of the plot is chosen so that all text fits.
"""

import io
import warnings

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from PIL import Image

from data_cards.core.console import PROGRAM
from data_cards.core.labels import CLASS_NAMES
from data_cards.core.text import escape_untrusted
from eval.explain.class_spectra import ClassSpectra
from eval.explain.parts import PART_WORDS
from eval.verdict.examine import Examined
from eval.verdict.wording import (
    SCORE_NOTE,
    TITLES,
    format_kind,
    format_map_title,
    format_never,
    format_verdict,
    summarise_examined,
)
from pipeline.features.frequencies import MAX_FREQUENCY, NYQUIST
from pipeline.features.versions import get_program_version
from train.model.detector import Detector

_FREQUENCY = "cycles per pixel: coarse to fine; above 0.5, diagonal"
MARK = "spectral-detector, eval predict --explain"  # in the PNG; only files with this mark are overwritten

_INK, _SOFT, _LINE = "#1d2327", "#59636b", "#d9d8d2"
_REAL, _FAKE = "#1f6f8b", "#c2571a"
_DPI = 110
# Inches: the width of the plot, its margin, the picture, the column of words, the scale, and each row of plots.
_WIDTH, _MARGIN, _PICTURE, _WORDS, _SCALE, _ROW = 11.0, 0.45, 4.7, 4.95, 0.42, 3.2
_SIDE = 700  # of the shown picture, in pixels
_SMALL, _TEXT, _TITLE = 10, 10.5, 22  # points
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
    "text.parse_math": False,  # a file's name is not a formula
    "legend.frameon": False,
}


def plot_examined(
    name: str,
    examined: Examined,
    detector: Detector,
    spectra: ClassSpectra | None,
    notice: str | None = None,
    caution: str | None = None,
) -> bytes:
    """Plot an examined picture; return the bytes of a PNG.

    Parameters
    ----------
    name : str, of the file
    spectra : ClassSpectra or None, drawn with the picture's own spectrum if the run has a network
    notice, caution : str or None, printed at the top and at the bottom
    """
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a name in letters that the font lacks
        page = _Page()
        words = [page.wrap(line, _WORDS, _TEXT) for line in _list_words(examined, detector, notice)]
        text = "\n\n".join(words)
        small = examined.picture.copy()
        small.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
        height = _PICTURE * min(1, small.height / small.width)
        top = max(height + 0.35, page.measure_height(text, _TEXT) + 0.6)
        rows = []
        if examined.comb is not None:
            rows.append(_ROW + 0.7)
        if examined.explanation is not None:
            rows.append(_ROW)
        scale = _SCALE + 0.75 if examined.judgement.has_valid_score else 0
        foot = "\n".join(page.wrap(line, _WIDTH - 2 * _MARGIN, _SMALL) for line in _list_foot(examined, caution))
        end = page.measure_height(foot, _SMALL) + 0.2 if foot else 0.1
        page.begin(_MARGIN + top + 0.5 + scale + sum(rows) + end)

        y = _MARGIN
        shown = page.add_axes(_MARGIN, y + 0.35, _PICTURE, height)
        shown.imshow(np.asarray(small))
        shown.set_axis_off()
        shown.set_anchor("NW")
        page.write(_MARGIN, y, page.shorten(escape_untrusted(name), _PICTURE, 12), size=12)
        left = _WIDTH - _MARGIN - _WORDS
        colour = dict(zip(CLASS_NAMES, (_REAL, _FAKE), strict=True)).get(examined.judgement.verdict, _INK)
        page.write(left, y, TITLES[examined.judgement.verdict], size=_TITLE, weight="bold", color=colour)
        page.write(left, y + 0.6, text, size=_TEXT, linespacing=1.25)
        y += top + 0.5
        if scale:
            _plot_scale(page.add_axes(_MARGIN, y, _WIDTH - 2 * _MARGIN, _SCALE), examined, detector)
        y += scale
        if examined.comb is not None:
            _plot_comb(page.add_axes(_MARGIN + 0.5, y + 0.5, _ROW - 0.5, _ROW - 0.5), examined)
            _plot_parts(page.add_axes(_MARGIN + 6.5, y + 0.5, 3.4, _ROW - 0.5), examined.judgement.parts, detector)
            y += _ROW + 0.7
        if examined.explanation is not None:
            _plot_spectrum(page.add_axes(_MARGIN + 0.5, y + 0.3, 4.2, _ROW - 1.0), examined, spectra)
            _plot_bands(page.add_axes(_MARGIN + 5.9, y + 0.3, 4.2, _ROW - 1.0), examined)
            y += _ROW
        if foot:
            page.write(_MARGIN, y, foot, size=_SMALL, color=_SOFT)
        return page.encode()


class _Page:
    """A figure with positions in inches from its upper left corner."""

    def __init__(self) -> None:
        self._figure = Figure(figsize=(_WIDTH, 10), dpi=_DPI, facecolor="white")
        self._renderer = FigureCanvasAgg(self._figure).get_renderer()

    def begin(self, height: float) -> None:
        self._figure.set_size_inches(_WIDTH, height)

    def add_axes(self, left: float, top: float, width: float, height: float) -> Axes:
        whole = self._figure.get_figheight()
        return self._figure.add_axes((left / _WIDTH, 1 - (top + height) / whole, width / _WIDTH, height / whole))

    def write(self, left: float, top: float, text: str, **options: object) -> None:
        self._figure.text(left / _WIDTH, 1 - top / self._figure.get_figheight(), text, va="top", **options)

    def measure_height(self, text: str, size: float) -> float:
        return (text.count("\n") + 1) * 1.25 * 1.2 * size / 72

    def wrap(self, text: str, width: float, size: float) -> str:
        """Break a text into lines at most `width` inches long; words that are longer are broken too."""
        lines = [""]
        for word in text.split():
            joined = f"{lines[-1]} {word}".strip()
            if self._measure(joined, size) <= width:
                lines[-1] = joined
                continue
            lines += [""] if lines[-1] else []
            for letter in word:
                if self._measure(lines[-1] + letter, size) > width:
                    lines.append("")
                lines[-1] += letter
        return "\n".join(lines)

    def shorten(self, text: str, width: float, size: float) -> str:
        """Cut the beginning of a text so that it is at most `width` inches long."""
        if self._measure(text, size) <= width:
            return text
        while text and self._measure(f"…{text}", size) > width:
            text = text[1:]
        return f"…{text}"

    def encode(self) -> bytes:
        file = io.BytesIO()
        self._figure.savefig(file, format="png", dpi=_DPI, metadata={"Software": MARK})
        return file.getvalue()

    def _measure(self, text: str, size: float) -> float:
        return self._renderer.get_text_width_height_descent(text, FontProperties(size=size), False)[0] / _DPI


def _list_words(examined: Examined, detector: Detector, notice: str | None) -> list[str]:
    said = examined.judgement
    lines = [notice] if notice else []
    lines.append(format_verdict(said, detector))
    if said.has_valid_score:
        lines.append(f"Probability that the picture is fake: {said.probability_fake:.1%}.")
    lines += [f"The file: {one}." for one in examined.remarks]
    if said.crops > 1:
        lines.append(f"The network judged {said.crops} crops; the plots show what decided for the middle one.")
    if never := format_never(detector):
        lines.append(f"{never[0].upper()}{never[1:]}.")
    lines += summarise_examined(examined)
    if examined.declared:
        lines.append("Declared, not verified: " + "; ".join(dict.fromkeys(one.what for one in examined.declared)))
    return lines


def _list_foot(examined: Examined, caution: str | None) -> list[str]:
    """List the lines in small print below the plots."""
    lines = []
    if not examined.judgement.has_valid_score:
        lines.append(f"Score: {examined.judgement.probability_fake:.1%}. {SCORE_NOTE}")
    if examined.explanation is not None:
        kinds = examined.explanation.kinds.items()
        listed = ", ".join(f"{format_kind(name, examined.estimator)} {value:+.2f}" for name, value in kinds)
        lines.append(f"By kind of planes: {listed}.")
    if caution:
        lines.append(caution)
    if examined.sha256:
        lines.append(f"File: SHA-256 {examined.sha256}. Judged by {PROGRAM} {get_program_version()}.")
    return lines


def _plot_scale(axes: Axes, examined: Examined, detector: Detector) -> None:
    low, high, p = detector.calibration.low, detector.calibration.high, examined.judgement.probability_fake
    for start, end, colour in ((0, low, _REAL), (low, high, _LINE), (high, 1, _FAKE)):
        axes.axvspan(start, end, color=colour, alpha=0.75 if colour == _LINE else 0.28, lw=0)
    for start, end, text in ((0, low, "real"), (low, high, "unsure"), (high, 1, "fake")):
        if end - start > 0.06:
            axes.text((start + end) / 2, 0.5, text, ha="center", va="center", color=_SOFT)
    for one in examined.judgement.checks.values():
        axes.plot([one], [0.0], marker="|", ms=9, mew=1.6, color=_SOFT, clip_on=False)
    axes.plot([p], [1.08], marker="v", ms=13, color=_INK, clip_on=False)
    axes.set(xlim=(0, 1), ylim=(0, 1), yticks=[])
    axes.set_xlabel(
        "probability that the picture is fake; the triangle is this picture"
        + (", the strokes are the picture after JPEG or a crop" if examined.judgement.checks else "")
    )
    axes.spines["left"].set_visible(False)


def _plot_comb(axes: Axes, examined: Examined) -> None:
    """Plot the spectrum above its background, with the teeth of the strongest comb if it is a strong one."""
    comb = examined.comb
    half = NYQUIST / (len(comb.excess) - 1) / 2
    extent = (-half, NYQUIST + half, NYQUIST + half, -half)
    axes.imshow(comb.scale_excess(), cmap="gray", vmin=0, vmax=255, extent=extent)
    across, down = (values.ravel() for values in np.meshgrid(comb.frequencies, comb.frequencies))
    if examined.has_grid:
        axes.plot(across[1:], down[1:], "o", mfc="none", mec=_FAKE, mew=1.1, ms=8, clip_on=False)
    ticks = np.arange(0, NYQUIST + 0.01, 0.125)
    axes.set(xticks=ticks, yticks=ticks, xlabel="cycles per pixel, across", ylabel="down")
    axes.set_title(f"Peaks in the spectrum of brightness\n{format_map_title(examined)}")


def _plot_parts(axes: Axes, parts: dict[str, float], detector: Detector) -> None:
    names, values = [PART_WORDS[name] for name in parts], list(parts.values())
    axes.barh(names, values, color=[_FAKE if value > 0 else _REAL for value in values], height=0.6)
    axes.invert_yaxis()
    axes.axvline(0, color=_SOFT, lw=1)
    most = 1.5 * max(0.1, *(abs(value) for value in values))
    for number, value in enumerate(values):
        axes.annotate(
            _format_log_odds(value),
            (value, number), (4 if value > 0 else -4, 0), textcoords="offset points",
            ha="left" if value > 0 else "right", va="center", size=10, color=_SOFT,
        )  # fmt: skip
    constant = _format_log_odds(detector.experts.offset)
    axes.set(xlim=(-most, most), xlabel=f"log-odds (the run adds {constant} to their sum)")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_title("What each part adds\nleft “real”, right “fake”", x=0, ha="left")


def _format_log_odds(value: float) -> str:
    return f"{value:+.2f}".replace("-", "\N{MINUS SIGN}")


def _plot_spectrum(axes: Axes, examined: Examined, spectra: ClassSpectra | None) -> None:
    if spectra is not None:
        for name, colour, label in zip(CLASS_NAMES, (_REAL, _FAKE), CLASS_NAMES, strict=True):
            mean, width = spectra.mean[name], spectra.deviation[name]
            axes.fill_between(spectra.frequencies, mean - width, mean + width, color=colour, alpha=0.14, lw=0)
            axes.plot(spectra.frequencies, mean, color=colour, lw=1.8, label=label)
    axes.plot(examined.explanation.frequencies, examined.explanation.profile, color=_INK, lw=2, label="this picture")
    axes.set(
        xlim=(0, MAX_FREQUENCY),
        title="Spectrum",
        ylabel="strength, logarithmic",
        xlabel=_FREQUENCY,
    )
    if spectra is None:
        axes.set_title("Spectrum (the classes' spectra are not available)")
    axes.legend(loc="upper right")
    axes.grid(color=_LINE, alpha=0.6, lw=0.6)


def _plot_bands(axes: Axes, examined: Examined) -> None:
    explanation = examined.explanation
    widths, middles = np.diff(explanation.edges), (explanation.edges[1:] + explanation.edges[:-1]) / 2
    axes.bar(
        middles, explanation.bands, widths * 0.86, color=[_FAKE if value > 0 else _REAL for value in explanation.bands]
    )
    axes.axhline(0, color=_SOFT, lw=1)
    axes.set(xlim=(0, MAX_FREQUENCY), xlabel=_FREQUENCY, ylabel="log-odds")
    axes.set_title("Network: up “fake”, down “real”")
    axes.grid(axis="y", color=_LINE, alpha=0.6, lw=0.6)
