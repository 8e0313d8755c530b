"""Build settings: all values that determine the bytes of a store, besides the pictures."""

from contextlib import suppress
from dataclasses import asdict, dataclass, field

from data_cards.core.errors import UsageError
from data_cards.core.options import check_choices, list_given_options, option_field, option_names
from data_cards.core.value_types import check_types, convert_fields
from pipeline.features.settings import MAX_PIXELS, NO_PLANES, PICTURES, PLANES, FeatureSettings
from pipeline.features.variants import CONDITIONS, RECIPES, Variant, draw_variants


@dataclass(frozen=True)
class BuildSettings:
    """All values that determine the bytes of a store, besides the pictures.

    `BuildSettings()` has the defaults of `pipeline build`.
    """

    features: FeatureSettings = field(default_factory=FeatureSettings)
    variants: str = option_field(
        "views",
        group=PICTURES,
        choices=RECIPES,
        metavar="RECIPE",
        help="Variants of each picture to store. clean: unchanged; views: also JPEG 75, as on the web, and shrunk; "
        "web: also four shrunk and saved; saved: also three saved as JPEG before fitting; train: three after it; "
        f"conditions, stress: only test pictures, {len(CONDITIONS)} or "
        f"{len(draw_variants('stress', 0, b''))} variants.",
    )
    seed: int = option_field(0, group=PICTURES, help="Seed of variants, drawn split and order of rows.")
    val_fraction: float = option_field(
        0.15,
        group=PICTURES,
        metavar="SHARE",
        help="Share of the training pictures to use for validation if the set has no validation split.",
    )
    max_pixels: int = option_field(MAX_PIXELS, group=PICTURES, help="Set aside pictures with more pixels.")
    packing: str = option_field(
        "mirror",
        group=PLANES,
        choices=("mirror", "none"),
        help="mirror: half of each symmetric plane, which only this package reads; none: for any Zarr v3 reader.",
    )

    def __post_init__(self) -> None:
        convert_fields(self)
        check_choices(self)
        if self.features.estimator == NO_PLANES and self.packing != "mirror":
            raise UsageError(
                f"packing {self.packing}: only planes are packed, and --estimator none stores no planes; leave it out, "
                "or give --estimator averaged or periodogram, too"
            )
        if not 0 <= self.val_fraction < 1:
            raise UsageError(f"--val-fraction {self.val_fraction}: expected 0 or more, below 1")
        if self.max_pixels < 1:
            raise UsageError(f"--max-pixels {self.max_pixels}: expected at least 1")

    def draw_variants(self, sha256: bytes) -> tuple[Variant, ...]:
        """Draw the variants of a picture from its file's hash."""
        return draw_variants(self.variants, self.seed, sha256)

    def list_options(self) -> list[str]:
        """Return the fewest options of `pipeline build` that give these settings, such as `--size 1024`."""
        needed = {name: getattr(self.features, name) for name in option_names(FeatureSettings)}
        for name in reversed(list(needed)):
            others = {other: value for other, value in needed.items() if other != name}
            with suppress(UsageError):  # some options need others
                needed = others if FeatureSettings(**others) == self.features else needed
        return [f"--{name} {value}" for name, value in needed.items()] + list_given_options(self)

    def to_dict(self) -> dict:
        """Return plain values, as a store's attributes hold them."""
        return {**asdict(self), "features": self.features.to_dict()}

    @classmethod
    def from_dict(cls, values: dict) -> "BuildSettings":
        """Invert `to_dict`."""
        values = {**values, "features": FeatureSettings.from_dict(values["features"])}
        check_types(cls, values)
        return cls(**values)
