"""Feature settings: everything that decides a picture's features.

`FeatureSettings` is recorded in the store and in every run trained on it: `pipeline build` and `eval predict` pass it
to the same function, so the two cannot differ.

**Defaults** follow one rule, the same for the command and in Python, as the evidence recommends (docs/evidence.md).
Without estimator, patch and size, planes are averaged ones of native pixels and of an overview of the whole picture.
A size alone asks for planes of that size, which are periodograms. With estimator, patch or size given there is no
overview unless asked for. Size, fit and variants depend on the estimator:

    estimator     size   fit     variants
    averaged      512    crop    saved
    periodogram   1024   cover   train
"""

from dataclasses import asdict, dataclass

from data_cards.core.errors import UsageError, UserError
from data_cards.core.options import check_choices, option_field

AVERAGED, PERIODOGRAM = "averaged", "periodogram"
PATCHES = (32, 64, 128)

# Defaults by estimator; and the overview's where estimator, patch and size are all left out.
DEFAULTS_BY_ESTIMATOR = {
    AVERAGED: {"size": 512, "fit": "crop", "variants": "saved"},
    PERIODOGRAM: {"size": 1024, "fit": "cover", "variants": "train"},
}
_OVERVIEW_DEFAULT = 128

PLANES_PER_KIND = 3  # one for each colour
_OVERVIEW = "overview-"
SQUARE_KINDS = ("magnitude", "phase", "dct")
# Every kind of planes that a store can have, in their order; those of the overview may be missing.
KINDS = (*SQUARE_KINDS, *(_OVERVIEW + kind for kind in SQUARE_KINDS))

# A 108-megapixel phone picture passes; decoded it takes 360 MB.
MAX_PIXELS = 120_000_000

# Headings of the options.
PLANES, PICTURES = "Planes", "Pictures"

# The format of a store has these too: options of earlier versions, each with the one value that it still may have.
_CONSTANTS = {"dtype": "uint8", "jpeg_scale": "full", "colour_axis": "separate"}
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


def format_default(name: str) -> str:
    """Format the default of an option that depends on the estimator."""
    return f"{DEFAULTS_BY_ESTIMATOR[AVERAGED][name]}; periodogram: {DEFAULTS_BY_ESTIMATOR[PERIODOGRAM][name]}"


@dataclass(frozen=True)
class FeatureSettings:
    """Everything that decides the values of a picture's features; each field has its help text.

    None asks for the default, which is filled in at once: afterwards only `patch` (of periodograms) and `overview`
    may be None, for none. An overview of 0 asks for none.
    """

    size: int | None = option_field(
        None,
        group=PLANES,
        metavar="PIXELS",
        shown=format_default("size"),
        help="Side of the square that a picture is fitted to, 8 to 8192. Given alone it asks for planes of that side: "
        "periodograms.",
    )
    estimator: str | None = option_field(
        None,
        group=PLANES,
        choices=(AVERAGED, PERIODOGRAM),
        shown=f"{AVERAGED}; with --size alone: {PERIODOGRAM}",
        help="averaged: planes of small patches, their mean over the square, steadier and far smaller; periodogram: "
        "planes of the whole square.",
    )
    patch: int | None = option_field(
        None,
        group=PLANES,
        choices=PATCHES,
        shown=str(PATCHES[0]),
        help="Side of those patches, and of averaged planes, in pixels.",
    )
    overview: int | None = option_field(
        None,
        group=PLANES,
        metavar="PIXELS",
        shown=f"{_OVERVIEW_DEFAULT} where none of --estimator, --patch and --size is given, else 0",
        help="Side that the whole picture is squeezed to, for nine more averaged planes of it; 0: none.",
    )
    fit: str | None = option_field(
        None,
        group=PLANES,
        choices=("cover", "stretch", "crop"),
        shown=format_default("fit"),
        help="crop: centre crop of the native pixels, never resampled (for averaged planes of what there is of it); "
        "cover: short side to the size, then centre crop; stretch: both sides to the size.",
    )
    resample: str = option_field(
        "bicubic",
        group=PLANES,
        choices=("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"),
        help="Filter that pictures are resampled with.",
    )

    def __post_init__(self) -> None:
        check_choices(self)
        self._fill_in()
        if not 8 <= self.size <= 8192:
            raise UsageError(f"size {self.size}: expected 8 to 8192 pixels")
        if self.estimator == PERIODOGRAM and self.patch is not None:
            raise UsageError(f"patch {self.patch}: only --estimator averaged has patches; leave out one of the two")
        if self.patch is not None and self.size < self.patch:
            raise UsageError(f"size {self.size}: smaller than a patch of {self.patch}; give a larger --size")
        if self.overview is not None:
            if self.patch is None:
                raise UsageError(f"overview {self.overview}: only with --estimator averaged; leave out one of the two")
            if not self.patch <= self.overview <= 8192:
                raise UsageError(f"overview {self.overview}: expected {self.patch} (a patch) to 8192 pixels")

    def _fill_in(self) -> None:
        """Replace None by the default that follows from the other fields."""
        unsaid = self.estimator is None and self.patch is None and self.size is None
        of_size = self.estimator is None and self.patch is None and self.size is not None
        estimator = self.estimator or (PERIODOGRAM if of_size else AVERAGED)
        filled = {
            "estimator": estimator,
            "size": DEFAULTS_BY_ESTIMATOR[estimator]["size"] if self.size is None else self.size,
            "fit": self.fit or DEFAULTS_BY_ESTIMATOR[estimator]["fit"],
            "patch": PATCHES[0] if estimator == AVERAGED and self.patch is None else self.patch,
            "overview": (_OVERVIEW_DEFAULT if unsaid and self.overview is None else self.overview) or None,
        }
        for name, value in filled.items():
            object.__setattr__(self, name, value)

    @property
    def side(self) -> int:
        """Side of the square planes, in bins."""
        return self.size if self.patch is None else self.patch

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of planes, three planes each, in their order."""
        return KINDS[: len(SQUARE_KINDS)] if self.overview is None else KINDS

    @property
    def planes(self) -> int:
        """Number of planes: 9, or 18 with an overview."""
        return PLANES_PER_KIND * len(self.kinds)

    def to_dict(self) -> dict:
        """Return plain values, as a store's attributes hold them."""
        values = asdict(self) | _CONSTANTS
        return {name: values.pop(name) for name in _ORDER} | values

    @classmethod
    def from_dict(cls, values: dict) -> "FeatureSettings":
        """Invert `to_dict`.

        Raises
        ------
        UserError : a removed option has another value than its only remaining one
        """
        values = dict(values)
        for name, only in _CONSTANTS.items():
            found = values.pop(name, only)
            if found != only:
                raise UserError(
                    f"made with {name.replace('_', ' ')} {found}, an option that was removed; build it again"
                )
        return cls(**values)
