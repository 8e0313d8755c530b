"""Feature settings: everything that decides a picture's planes. Its profile has no settings.

`FeatureSettings` is recorded in the store and in every run trained on it: `pipeline build` and `predict` pass it
to the same function, so the two cannot differ.

**Defaults** are those that the evidence recommends (docs/evidence.md), the same for the command and in Python.
Without options there are no planes, because the recommended detector reads profiles alone. A size alone asks for
periodograms of that size; a patch or an overview asks for averaged planes. Size, fit and levels depend on the
estimator:

    estimator     size   fit     levels
    none          -      -       -
    averaged      512    crop    fine
    periodogram   1024   cover   coarse
"""

from dataclasses import asdict, dataclass, replace

from data_cards.core.errors import UsageError, UserError
from data_cards.core.options import check_choices, option_field
from data_cards.core.value_types import check_types, convert_fields

NO_PLANES, AVERAGED, PERIODOGRAM = "none", "averaged", "periodogram"
PATCHES = (32, 64, 128)
FINE, COARSE = "fine", "coarse"

_DEFAULTS_BY_ESTIMATOR = {
    NO_PLANES: {"size": None, "fit": None, "levels": None},
    AVERAGED: {"size": 512, "fit": "crop", "levels": FINE},
    PERIODOGRAM: {"size": 1024, "fit": "cover", "levels": COARSE},
}
_RESAMPLE_DEFAULT = "bicubic"

PLANES_PER_KIND = 3  # one for each colour
_OVERVIEW = "overview-"
SQUARE_KINDS = ("magnitude", "phase", "dct")
# Every kind of planes that a store can have, in their order; without an overview the last three are missing.
KINDS = (*SQUARE_KINDS, *(_OVERVIEW + kind for kind in SQUARE_KINDS))

# Allows a 108-megapixel phone picture, which needs 360 MB decoded.
MAX_PIXELS = 120_000_000

# Headings of the options.
PLANES, PICTURES = "Planes", "Pictures"

# A store's settings also hold these options of earlier versions, each with the only value that it may still have.
_CONSTANTS = {"dtype": "uint8", "jpeg_scale": "full", "colour_axis": "separate"}
# Coarse levels as a store's settings name them. Raise the number if their tables change.
_COARSE_STORED = f"{COARSE}-2"
# Order of the names in a store's attributes; names that are not listed follow.
_ORDER = ("size", "fit", "resample", "dtype", "jpeg_scale", "estimator", "patch", "colour_axis", "overview")


def base_kind(kind: str) -> str:
    """Return the kind without its origin, square or overview: "magnitude", "phase" or "dct"."""
    return kind.removeprefix(_OVERVIEW)


def plane_slice(first: int, stop: int | None = None) -> slice:
    """Return the slice of the planes of kind number `first`, or of the kinds from `first` to `stop - 1`."""
    return slice(PLANES_PER_KIND * first, PLANES_PER_KIND * (first + 1 if stop is None else stop))


def is_overview_kind(kind: str) -> bool:
    """Return whether planes of this kind are of the overview."""
    return kind.startswith(_OVERVIEW)


def _format_default(name: str) -> str:
    """Format the default of an option, of each estimator where they differ."""
    if len({_DEFAULTS_BY_ESTIMATOR[kind][name] for kind in (AVERAGED, PERIODOGRAM)}) == 1:
        return str(_DEFAULTS_BY_ESTIMATOR[AVERAGED][name])
    return "; ".join(f"{kind}: {_DEFAULTS_BY_ESTIMATOR[kind][name]}" for kind in (AVERAGED, PERIODOGRAM))


@dataclass(frozen=True)
class FeatureSettings:
    """Everything that decides the values of a picture's planes; each field has its help text.

    None selects the default, which replaces it at once. None remains if a setting does not apply: `overview` without
    an overview, `patch` with periodograms, and `size`, `fit` and `levels` without planes. An `overview` of 0 is none.
    """

    size: int | None = option_field(
        None,
        group=PLANES,
        metavar="PIXELS",
        shown=_format_default("size"),
        help="Side of the square that a picture is fitted to (8 to 8192); alone: periodograms.",
    )
    estimator: str | None = option_field(
        None,
        group=PLANES,
        choices=(NO_PLANES, AVERAGED, PERIODOGRAM),
        metavar="KIND",
        shown=f"{NO_PLANES}; with --size alone: {PERIODOGRAM}; with --patch or --overview: {AVERAGED}",
        help="none: profiles only; averaged: also planes averaged over small patches, less noisy and far "
        "smaller; periodogram: also planes of the whole square.",
    )
    patch: int | None = option_field(
        None,
        group=PLANES,
        choices=PATCHES,
        shown=str(PATCHES[0]),
        help="Side of the patches and of averaged planes, in pixels.",
    )
    overview: int | None = option_field(
        None,
        group=PLANES,
        metavar="PIXELS",
        shown="0",
        help="Side of the square that the whole picture is squeezed to, for nine more averaged planes; 0: none.",
    )
    fit: str | None = option_field(
        None,
        group=PLANES,
        choices=("cover", "stretch", "crop"),
        shown=_format_default("fit"),
        help="crop: native pixels of the centre, never resampled; cover: short side to the size, then crop; stretch: "
        "both sides to the size.",
    )
    resample: str = option_field(
        _RESAMPLE_DEFAULT,
        group=PLANES,
        choices=("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"),
        metavar="FILTER",
        help="Filter that fits pictures: nearest, box, bilinear, hamming, bicubic or lanczos.",
    )
    levels: str | None = option_field(
        None,
        group=PLANES,
        choices=(FINE, COARSE),
        shown=_format_default("levels"),
        help="fine: all 256 levels of a plane's scale; coarse, for periodograms: fewer levels, which add at most 5% "
        "to a bin's variance and use about half the disk.",
    )

    def __post_init__(self) -> None:
        convert_fields(self)
        check_choices(self)
        self._fill_in()
        if self.estimator == NO_PLANES:
            self._check_unasked()
            return
        if not 8 <= self.size <= 8192:
            raise UsageError(f"--size {self.size}: expected 8 to 8192 pixels")
        if self.estimator == PERIODOGRAM and self.patch is not None:
            raise UsageError(f"patch {self.patch}: only --estimator averaged has patches; leave out one of the two")
        if self.estimator == AVERAGED and self.levels == COARSE:
            raise UsageError(
                f"--levels {COARSE}: averaged planes vary less than periodograms and need levels {FINE}; leave it out"
            )
        if self.patch is not None and self.size < self.patch:
            raise UsageError(f"size {self.size}: smaller than a patch of {self.patch}; give a larger --size")
        if self.overview is not None:
            if self.patch is None:
                raise UsageError(f"overview {self.overview}: only with --estimator averaged; leave out one of the two")
            if not self.patch <= self.overview <= 8192:
                raise UsageError(f"--overview {self.overview}: expected {self.patch} (a patch) to 8192 pixels")

    def _fill_in(self) -> None:
        """Replace None by the default that follows from the other fields."""
        if self.patch is not None or (self.overview and self.size is None):
            unsaid = AVERAGED
        else:
            unsaid = NO_PLANES if self.size is None else PERIODOGRAM
        estimator = self.estimator or unsaid
        defaults = _DEFAULTS_BY_ESTIMATOR[estimator]
        filled = {
            "estimator": estimator,
            "size": defaults["size"] if self.size is None else self.size,
            "fit": self.fit or defaults["fit"],
            "levels": self.levels or defaults["levels"],
            "patch": PATCHES[0] if estimator == AVERAGED and self.patch is None else self.patch,
            "overview": self.overview or None,
        }
        for name, value in filled.items():
            object.__setattr__(self, name, value)

    def _check_unasked(self) -> None:
        """Raise `UsageError` for a field of planes that is set without planes."""
        unasked = {"size": None, "patch": None, "overview": None, "fit": None, "levels": None}
        unasked["resample"] = _RESAMPLE_DEFAULT
        for name, value in unasked.items():
            if getattr(self, name) != value:
                estimators = PERIODOGRAM if name == "levels" else f"{AVERAGED} or {PERIODOGRAM}"
                raise UsageError(
                    f"--{name} {getattr(self, name)}: only planes have it, but this build has none; leave it out, or "
                    f"add --estimator {estimators}"
                )

    @property
    def side(self) -> int:
        """Side of the square planes, in bins; 0 without planes."""
        return (self.size or 0) if self.patch is None else self.patch

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of planes, three planes each, in their order."""
        if self.estimator == NO_PLANES:
            return ()
        return KINDS[: len(SQUARE_KINDS)] if self.overview is None else KINDS

    @property
    def planes(self) -> int:
        """Number of planes: 0, 9, or 18 with an overview."""
        return PLANES_PER_KIND * len(self.kinds)

    def to_dict(self) -> dict:
        """Return plain values, as a store's attributes hold them."""
        values = asdict(self) | _CONSTANTS
        if self.levels == COARSE:
            values["levels"] = _COARSE_STORED
        else:
            del values["levels"]  # stores of earlier versions, which are all fine, lack it
        return {name: values.pop(name) for name in _ORDER} | values

    @classmethod
    def from_dict(cls, values: dict) -> "FeatureSettings":
        """Invert `to_dict`.

        Raises
        ------
        UserError : a removed option has a value other than its only remaining one
        TypeError, ValueError : a value that settings cannot have
        """
        values = dict(values)
        for name, only in _CONSTANTS.items():
            found = values.pop(name, only)
            if found != only:
                raise UserError(
                    f"made with {name.replace('_', ' ')} {found}, an option that was removed; build it again"
                )
        stored = values.get("levels")
        if stored == COARSE:
            raise UserError("made with coarse levels of an earlier version, other numbers of levels; build it again")
        if stored == _COARSE_STORED:
            values["levels"] = COARSE
        check_types(cls, values)
        settings = cls(**values)
        return settings if "levels" in values or not settings.planes else replace(settings, levels=FINE)
