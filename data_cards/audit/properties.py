"""Trivial properties of pictures, in families: the inputs of the shortcut audit's classifiers.

File facts do not depend on a pixel; the thumbnail has colours and coarse content; the profile is the
radial profile at low frequencies; the history has the traces in the pixels of earlier processing, such as JPEG files
and scaling. The first three contain no trace of a generator, the history hardly any.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from data_cards.dataset.table import Picture, compute_columns
from data_cards.image.history import HISTORY as HISTORY_VALUES
from data_cards.image.jpeg import NO_QUALITY
from data_cards.image.low_frequency import FREQUENCIES, THUMBNAIL

FILE, THUMB, PROFILE, HISTORY, SIZE = (
    "file facts",
    "thumbnail",
    "low frequencies",
    "earlier processing",
    "size and aspect",
)
FORMER_NAMES = {"earlier savings": HISTORY}  # in cards of earlier versions
FAMILIES = {
    FILE: "format, size, bytes per pixel, JPEG tables and subsampling, EXIF presence",
    THUMB: "an 8 x 8 thumbnail and the mean colour",
    PROFILE: f"the radial mean of the spectrum, up to {FREQUENCIES} cycles a side",
    HISTORY: "colour resolution, blocks of earlier JPEG files, traces of scaling, read from the pixels",
    SIZE: "width, height and aspect alone",
}
# The sides of a threshold that a rule may name: with AWAY, the side that is further from 0.
BOTH, MORE, LESS, AWAY = "both", "more", "less", "away from 0"
_SIZE_FACTS = ("width", "height", "aspect")
_MOST_CATEGORIES = 40  # rarer JPEG tables share one category, because the trees allow about a hundred
_LEAST_REACH = 4  # cycles a side; a shorter profile would have no information


@dataclass(frozen=True)
class Property:
    """One property of N pictures.

    Attributes
    ----------
    name : str, such as "width"
    values : float64 (N,), NaN where a picture has none; or object (N,) of words
    phrase : str, a predicate with {} for the value: "are {} pixels wide". If `side` is AWAY, the value is the distance
        from 0, and a second {} stands for "above" or "below"
    side : str, the side of a threshold that the phrase gives a meaning to
    """

    name: str
    values: np.ndarray
    phrase: str
    side: str = BOTH

    @property
    def is_category(self) -> bool:
        return self.values.dtype == object


# Name, columns, function of the columns, and phrase of each property of a file that does not depend on a pixel, the
# plainest first.
_FILE_FACTS: tuple[tuple[str, tuple[str, ...], Callable[..., np.ndarray], str], ...] = (
    ("format", ("format",), lambda names: names, "are {}"),
    ("EXIF data", ("exif",), lambda has: _as_words(np.where(has, "EXIF data", "no EXIF data")), "have {}"),
    ("JPEG quality", ("quality",), lambda own: np.where(own == NO_QUALITY, np.nan, own), "have a JPEG quality of {}"),
    ("width", ("width",), lambda width: width, "are {} pixels wide"),
    ("height", ("height",), lambda height: height, "are {} pixels high"),
    (
        "aspect",
        ("width", "height"),
        lambda width, height: np.round(width / height, 4),
        "have an aspect (width over height) of {}",
    ),
    (
        "bytes per pixel",
        ("bytes", "width", "height"),
        lambda size, width, height: size / (width * height),
        "have {} bytes a pixel",
    ),
    ("JPEG subsampling", ("subsampling",), lambda names: _name_subsampling(names), "have {}"),
    ("pixel mode", ("mode",), lambda names: names, "are stored as {}"),
    ("JPEG tables", ("tables",), lambda names: _name_tables(names), "{}"),
)


_DETAIL = (
    "have a ratio of fine to coarse colour detail {} of {{}} (log10; halved colours, compression and scaling lower it)"
)
_TRACE = "have {{}} in the measure of {} (about {} without it)"
# Phrase and side of each value of a history.
_HISTORY_PHRASES = {
    "chroma detail across": (_DETAIL.format("from left to right"), LESS),
    "chroma detail down": (_DETAIL.format("from top to bottom"), LESS),
    "JPEG zeros": (_TRACE.format("JPEG compression", 0), MORE),
    "chroma zeros": (_TRACE.format("JPEG compression with full colour resolution", 0), MORE),
    "halved chroma zeros": (_TRACE.format("JPEG compression with halved colour resolution", 0), MORE),
    "shifted zeros": (_TRACE.format("JPEG compression before a crop", 0), MORE),
    "shifted grid": (_TRACE.format("a JPEG grid moved by a crop", "0 to 0.05"), MORE),
    "resampling": (_TRACE.format("scaling", "0.4 to 0.7"), MORE),
}


def compute_file_facts(columns: Mapping[str, np.ndarray]) -> list[Property]:
    """Compute the properties of files that do not depend on a pixel, as far as their columns are given.

    Parameters
    ----------
    columns : from `data_cards.dataset.table.compute_columns`, float64 or object (N,)
    """
    return [
        Property(name, compute(*(columns[one] for one in needed)), phrase)
        for name, needed, compute, phrase in _FILE_FACTS
        if columns.keys() >= set(needed)
    ]


def _compute_thumbnail_properties(pictures: Sequence[Picture]) -> list[Property]:
    """Compute colour and coarse content as named properties: means, casts, contrast, brightness of nine parts."""
    colours = _read_thumbnails(pictures)
    mean = colours.mean(axis=(1, 2))
    grey = colours.mean(axis=3)
    brightness = grey.mean(axis=(1, 2))
    named = [
        Property("brightness", brightness, "have a mean brightness of {} (of 255)"),
        Property(
            "contrast", grey.std(axis=(1, 2)), "have light and dark areas that differ by {} levels (standard deviation)"
        ),
        Property(
            "colourfulness",
            colours.std(axis=3).mean(axis=(1, 2)),
            "have colours that differ from grey by {} levels (standard deviation)",
        ),
    ]
    for number, colour in enumerate(("red", "green", "blue")):
        cast = mean[:, number] - brightness
        phrase = f"have a mean {colour} {{}} levels {{}} the mean of the three colours"
        named.append(Property(f"{colour} cast", cast, phrase, AWAY))
    edges = (0, 3, 5, 8)
    for row, high in enumerate(("top", "middle", "bottom")):
        for column, wide in enumerate(("left", "centre", "right")):
            part = grey[:, edges[row] : edges[row + 1], edges[column] : edges[column + 1]].mean(axis=(1, 2))
            phrase = f"have a brightness in the {high} {wide} {{}} levels {{}} the picture's mean"
            named.append(Property(f"{high} {wide}", part - brightness, phrase, AWAY))
    return named


def _compute_profile_properties(pictures: Sequence[Picture]) -> list[Property]:
    """Compute the radial profile at each frequency that is low for these pictures.

    Low is up to an eighth of the highest frequency of the smaller pictures: enlarging a picture twofold, as many
    generators do internally, attenuates the upper half, and slightly the frequencies far below it.
    """
    sides = [min(picture.facts.width, picture.facts.height) for picture in pictures]
    reach = int(np.clip(np.quantile(sides, 0.05) / 16, _LEAST_REACH, FREQUENCIES))
    phrase = "have a log10 power of {{}} at {} cycles a side (coarse structure)"
    return [
        Property(f"power at {cycle} cycles", power, phrase.format(cycle))
        for cycle, power in enumerate(_read_profiles(pictures).T[:reach], start=1)
    ]


def _compute_history_properties(pictures: Sequence[Picture]) -> list[Property]:
    histories = np.frombuffer(b"".join(picture.facts.history for picture in pictures), "<f2").astype(np.float64)
    columns = histories.reshape(len(pictures), len(HISTORY_VALUES)).T
    return [Property(name, own, *_HISTORY_PHRASES[name]) for name, own in zip(HISTORY_VALUES, columns, strict=True)]


def compute_properties(pictures: Sequence[Picture], family: str) -> list[Property]:
    """Compute the properties of one of `FAMILIES`; for `HISTORY` all pictures must have a history."""
    if family in (FILE, SIZE):
        facts = compute_file_facts(compute_columns(pictures))
        return facts if family == FILE else [one for one in facts if one.name in _SIZE_FACTS]
    compute = {
        THUMB: _compute_thumbnail_properties,
        PROFILE: _compute_profile_properties,
        HISTORY: _compute_history_properties,
    }
    return compute[family](pictures)


def build_inputs(
    pictures: Sequence[Picture], family: str, properties: Sequence[Property]
) -> tuple[np.ndarray, list[bool]]:
    """Build a classifier's inputs, float64 (N, inputs), and a list of bool: whether each is a category's number."""
    columns, is_category = [], []
    for one in properties:
        columns.append(_number_categories(one.values) if one.is_category else one.values)
        is_category.append(one.is_category)
    inputs = np.stack(columns, axis=1)
    if family not in (THUMB, PROFILE):
        return inputs, is_category
    # Squares let a linear classifier use values that are extreme in either direction.
    centred = inputs - inputs.mean(axis=0)
    parts = [inputs, centred**2]
    if family == THUMB:
        parts.append(_read_thumbnails(pictures).reshape(len(pictures), -1))
    inputs = np.concatenate(parts, axis=1)
    return inputs, [False] * inputs.shape[1]


def _as_words(values: Sequence[str]) -> np.ndarray:
    words = np.empty(len(values), dtype=object)
    words[:] = values
    return words


def _name_subsampling(names: np.ndarray) -> np.ndarray:
    meaning = {"4:4:4": " (full colour resolution)", "4:2:0": " (halved colour resolution)"}
    return _as_words(
        [f"JPEG subsampling {one}{meaning.get(one, '')}" if one else "no JPEG subsampling" for one in names]
    )


def _name_tables(names: np.ndarray) -> np.ndarray:
    saved = "were saved by the same kind of JPEG encoder at the same quality (tables {})"
    return _as_words([saved.format(one) if one else "have no JPEG tables" for one in names])


def _number_categories(words: np.ndarray) -> np.ndarray:
    values, number, count = np.unique(words.astype(str), return_inverse=True, return_counts=True)
    rank = np.empty(len(values))
    rank[np.argsort(-count, kind="stable")] = np.arange(len(values))
    return np.minimum(rank, _MOST_CATEGORIES)[number]


def _read_thumbnails(pictures: Sequence[Picture]) -> np.ndarray:
    data = b"".join(picture.facts.thumbnail for picture in pictures)
    return np.frombuffer(data, np.uint8).reshape(-1, THUMBNAIL, THUMBNAIL, 3).astype(np.float64)


def _read_profiles(pictures: Sequence[Picture]) -> np.ndarray:
    data = b"".join(picture.facts.profile for picture in pictures)
    return np.frombuffer(data, "<f2").reshape(-1, FREQUENCIES).astype(np.float64)
