"""The settings of a build, and the part of them that decides a picture's features.

`FeatureSettings` travels with the store and with every run trained on it: `pipeline build`
and `eval predict` make features from it with the same function, so the two cannot differ.

**What is not asked for** is filled in by one rule, the same for the command and in Python, as the evidence
recommends (docs/evidence.md). With nothing said of the planes they are averaged ones, of native pixels and of
an overview of the whole picture. A size alone asks for planes of that size: those are periodograms. Whoever
names estimator, patch or size gets no overview unless asked for. Size, fit and variants go by the estimator:

    estimator     size   fit     variants
    averaged      512    crop    saved
    periodogram   1024   cover   train
"""

from dataclasses import asdict, dataclass, field

from data_cards.core.errors import UsageError, UserError
from data_cards.core.options import check_choices, option_field
from pipeline.features.variants import RECIPES, Variant, draw_variants

AVERAGED, PERIODOGRAM = "averaged", "periodogram"
PATCHES = (32, 64, 128)

# What is not asked for, by the estimator; and the overview where nothing at all is.
_DEFAULTS = {
    AVERAGED: {"size": 512, "fit": "crop", "variants": "saved"},
    PERIODOGRAM: {"size": 1024, "fit": "cover", "variants": "train"},
}
_OVERVIEW_DEFAULT = 128

PLANES_A_KIND = 3  # one a colour
_OVERVIEW = "overview-"
OF_SQUARE = ("magnitude", "phase", "dct")
# Every kind of planes that a store can have, in their order; those of the overview may be missing.
KINDS = (*OF_SQUARE, *(_OVERVIEW + kind for kind in OF_SQUARE))

# A 108-megapixel phone picture passes; decoded it takes 360 MB.
MAX_PIXELS = 120_000_000

# Headings of the options.
PLANES, PICTURES = "Planes", "Pictures"

# The format of a store has these too: options of earlier versions, each with the one value that it still may have.
_CONSTANTS = {"dtype": "uint8", "jpeg_scale": "full", "colour_axis": "separate"}
_FORMAT = ("size", "fit", "resample", "dtype", "jpeg_scale", "estimator", "patch", "colour_axis", "overview")


def kind_of_planes(kind: str) -> str:
    """What planes of that kind are, wherever they are from: "magnitude", "phase" or "dct"."""
    return kind.removeprefix(_OVERVIEW)


def planes_of_kinds(first: int, behind: int | None = None) -> slice:
    """The planes of one kind by its place, or of the kinds from one place up to, not including, another."""
    return slice(PLANES_A_KIND * first, PLANES_A_KIND * (first + 1 if behind is None else behind))


def is_of_overview(kind: str) -> bool:
    """Whether planes of that kind are those of the overview."""
    return kind.startswith(_OVERVIEW)


def _by_estimator(name: str) -> str:
    """A default in words."""
    return f"{_DEFAULTS[AVERAGED][name]}; periodogram: {_DEFAULTS[PERIODOGRAM][name]}"


@dataclass(frozen=True)
class FeatureSettings:
    """What decides the numbers of one picture's features; each field's help says what it is.

    None stands for what the rule above fills in, at once: afterwards only `patch` (of periodograms) and `overview`
    may be None, for none. An overview of 0 asks for none.
    """

    size: int | None = option_field(
        None,
        group=PLANES,
        metavar="PIXELS",
        shown=_by_estimator("size"),
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
        shown=_by_estimator("fit"),
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
        """Put what the rule says in the place of what was not asked for."""
        unsaid = self.estimator is None and self.patch is None and self.size is None
        of_size = self.estimator is None and self.patch is None and self.size is not None
        estimator = self.estimator or (PERIODOGRAM if of_size else AVERAGED)
        filled = {
            "estimator": estimator,
            "size": _DEFAULTS[estimator]["size"] if self.size is None else self.size,
            "fit": self.fit or _DEFAULTS[estimator]["fit"],
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
        return KINDS[: len(OF_SQUARE)] if self.overview is None else KINDS

    @property
    def planes(self) -> int:
        """How many planes there are: 9, or 18 with an overview."""
        return PLANES_A_KIND * len(self.kinds)

    def to_dict(self) -> dict:
        """Plain values, as the format has them."""
        values = asdict(self) | _CONSTANTS
        return {name: values[name] for name in _FORMAT}

    @classmethod
    def from_dict(cls, values: dict) -> "FeatureSettings":
        """The inverse of `to_dict`.

        Raises
        ------
        UserError : made with an option that was removed
        """
        values = dict(values)
        for name, only in _CONSTANTS.items():
            found = values.pop(name, only)
            if found != only:
                raise UserError(
                    f"made with {name.replace('_', ' ')} {found}, an option that was removed; build it again"
                )
        return cls(**values)


@dataclass(frozen=True)
class BuildSettings:
    """Everything that decides the bytes of a store, besides the pictures themselves.

    `BuildSettings()` is what `pipeline build` takes where nothing is asked for.
    """

    features: FeatureSettings = field(default_factory=FeatureSettings)
    variants: str | None = option_field(
        None,
        group=PLANES,
        choices=RECIPES,
        shown=_by_estimator("variants"),
        help="What each picture is stored as. clean: as it is; saved: also three times saved as JPEG before it is "
        "fitted; train: likewise after; web: also four times scaled down and saved; stress, conditions: test pictures "
        "in 23 conditions, or in three of them.",
    )
    seed: int = option_field(0, group=PICTURES, help="Of the variants, the drawn split and the order.")
    val_fraction: float = option_field(
        0.15,
        group=PICTURES,
        metavar="SHARE",
        help="Share of the training pictures drawn for validation where there is no validation split.",
    )
    max_pixels: int = option_field(MAX_PIXELS, group=PICTURES, help="Larger pictures are set aside.")
    packing: str = option_field(
        "mirror",
        group=PLANES,
        choices=("mirror", "none"),
        help="mirror: store half of a plane that is its own mirror image, read with this package; none: all, for any "
        "Zarr v3 reader.",
    )

    def __post_init__(self) -> None:
        if self.variants is None:
            object.__setattr__(self, "variants", _DEFAULTS[self.features.estimator]["variants"])
        check_choices(self)
        if not 0 <= self.val_fraction < 1:
            raise UsageError(f"validation fraction {self.val_fraction}: expected 0 or more, below 1")
        if self.max_pixels < 1:
            raise UsageError(f"max pixels {self.max_pixels}: expected at least 1")

    def draw_variants(self, sha256: bytes) -> tuple[Variant, ...]:
        """The variants of a picture, by its file's hash."""
        return draw_variants(self.variants, self.seed, sha256)

    def as_json(self) -> dict:
        """Plain values for the store's attributes."""
        return {**asdict(self), "features": self.features.to_dict()}

    @classmethod
    def from_json(cls, values: dict) -> "BuildSettings":
        """The inverse of `as_json`."""
        return cls(**{**values, "features": FeatureSettings.from_dict(values["features"])})
