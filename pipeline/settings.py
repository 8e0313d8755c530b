"""The settings of a build, and the part of them that decides a picture's features.

`FeatureSettings` travels with the store and with every run trained on it: `pipeline build`
and `eval predict` make features from it with the same function, so the two cannot differ.
"""

from dataclasses import asdict, dataclass, field, fields

from data_cards.errors import UsageError, UserError
from pipeline.variants import Variant, draw_variants

FITS = ("cover", "stretch", "crop")
PACKINGS = ("mirror", "none")
ESTIMATORS = ("periodogram", "averaged")
PATCHES = (32, 64, 128)

PLANES_A_KIND = 3  # one a colour
_OVERVIEW = "overview-"
_OF_SQUARE = ("magnitude", "phase", "dct")
# Every kind of planes that a store can have, in their order; those of the overview may be missing.
KINDS = (*_OF_SQUARE, *(_OVERVIEW + kind for kind in _OF_SQUARE))

RESAMPLING_FILTERS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")

# A 108-megapixel phone picture passes; decoded it takes 360 MB.
MAX_PIXELS = 120_000_000


def kind_of_planes(kind: str) -> str:
    """What planes of that kind are, wherever they are from: "magnitude", "phase" or "dct"."""
    return kind.removeprefix(_OVERVIEW)


def is_of_overview(kind: str) -> bool:
    """Whether planes of that kind are those of the overview."""
    return kind.startswith(_OVERVIEW)


# With averaged planes, where nothing else is asked for.
RECOMMENDED = {"estimator": "averaged", "size": 512, "fit": "crop", "variants": "saved"}
# And where nothing is said of the planes at all.
RECOMMENDED_OVERVIEW = 128

# The format of a store has these too: options of earlier versions, each with the one value that it still may have.
_CONSTANTS = {"dtype": "uint8", "jpeg_scale": "full", "colour_axis": "separate"}
_FORMAT = ("size", "fit", "resample", "dtype", "jpeg_scale", "estimator", "patch", "colour_axis", "overview")


@dataclass(frozen=True)
class FeatureSettings:
    """What decides the numbers of one picture's features.

    Attributes
    ----------
    size : side of the square that a picture is fitted to, in pixels (8 to 8192)
    fit : "cover" (short side to `size`, then centre crop), "stretch" (both sides to `size`),
        "crop" (centre crop of the native pixels, never resampled; for averaged planes of what there is of it)
    resample : Pillow's name of the resampling filter; not used by "crop"
    estimator : "periodogram", the planes of the whole square, or "averaged" over its patches (`pipeline.averaged`)
    patch : side of those patches; None for periodograms, else 32, 64 or 128, and 32 where it is not given
    overview : side that the whole picture is squeezed to, in pixels, for nine more averaged planes of it beside those
        of the square; None for none
    """

    size: int = 1024
    fit: str = "cover"
    resample: str = "bicubic"
    estimator: str = "periodogram"
    patch: int | None = None
    overview: int | None = None

    def __post_init__(self) -> None:
        if not 8 <= self.size <= 8192:
            raise UsageError(f"size {self.size}: expected 8 to 8192 pixels")
        _one_of("fit", self.fit, FITS)
        _one_of("resample", self.resample, RESAMPLING_FILTERS)
        _one_of("estimator", self.estimator, ESTIMATORS)
        if self.estimator == "averaged":
            object.__setattr__(self, "patch", PATCHES[0] if self.patch is None else self.patch)
            _one_of("patch", self.patch, PATCHES)
            if self.size < self.patch:
                raise UsageError(f"size {self.size}: smaller than a patch of {self.patch}; give a larger --size")
        elif self.patch is not None:
            raise UsageError(f"patch {self.patch}: only --estimator averaged has patches; leave out one of the two")
        if self.overview is not None:
            if self.patch is None:
                raise UsageError(f"overview {self.overview}: only with --estimator averaged; leave out one of the two")
            if not self.patch <= self.overview <= 8192:
                raise UsageError(f"overview {self.overview}: expected {self.patch} (a patch) to 8192 pixels")

    @property
    def side(self) -> int:
        """Side of the square planes, in bins."""
        return self.size if self.patch is None else self.patch

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of planes, three planes each, in their order."""
        return KINDS[: len(_OF_SQUARE)] if self.overview is None else KINDS

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

    Attributes
    ----------
    features : what decides one picture's features
    variants : name of a recipe of `pipeline.variants`
    seed : of the variants, the drawn split and the order
    val_fraction : share of the training pictures drawn for validation where none is given
    max_pixels : larger pictures are set aside
    packing : "mirror" stores the independent half of a mirrored plane (readers need this package),
        "none" stores all, for any Zarr v3 reader
    """

    features: FeatureSettings = field(default_factory=FeatureSettings)
    variants: str = "train"
    seed: int = 0
    val_fraction: float = 0.15
    max_pixels: int = MAX_PIXELS
    packing: str = "mirror"

    def __post_init__(self) -> None:
        if not 0 <= self.val_fraction < 1:
            raise UsageError(f"validation fraction {self.val_fraction}: expected 0 or more, below 1")
        if self.max_pixels < 1:
            raise UsageError(f"max pixels {self.max_pixels}: expected at least 1")
        _one_of("packing", self.packing, PACKINGS)

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


def recommend_settings(**given: object) -> BuildSettings:
    """A build's settings by what was asked for, the rest as the evidence recommends (docs/evidence.md).

    Averaged planes of native pixels and of an overview, unless planes of a size are asked for: those are periodograms.

    Parameters
    ----------
    given : fields of `FeatureSettings` and `BuildSettings`; None where nothing was asked for, and an overview of 0
        for none

    Raises
    ------
    UsageError : a value that cannot be
    """
    asked = {name: value for name, value in given.items() if value is not None}
    averaged = asked.get("estimator", "periodogram" if "size" in asked and "patch" not in asked else "averaged")
    values = {**(RECOMMENDED if averaged == "averaged" else {}), **asked}
    if not asked.keys() & {"estimator", "patch", "size"}:  # who asks for averaged planes gets the nine of them
        values.setdefault("overview", RECOMMENDED_OVERVIEW)
    values["overview"] = values.get("overview") or None
    of_features = {field.name for field in fields(FeatureSettings)}
    features = FeatureSettings(**{name: value for name, value in values.items() if name in of_features})
    return BuildSettings(features, **{name: value for name, value in values.items() if name not in of_features})


def _one_of(name: str, value: object, allowed: tuple) -> None:
    if value not in allowed:
        raise UsageError(f"{name} {value!r}: expected one of {', '.join(map(str, allowed))}")
