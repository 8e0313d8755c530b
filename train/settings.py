"""Settings of a training run: every value that decides its weights, with its default and its help.

The options of `train run`, its `--help` and the tables of the documentation are made from these fields
(`data_cards.core.options`).
"""

from dataclasses import asdict, dataclass, fields

from data_cards.core.errors import UsageError
from data_cards.core.options import check_choices, option_field
from data_cards.core.value_types import check_types, convert_fields
from pipeline.features.settings import KINDS
from pipeline.store.schema import DEFAULT_STORE

NETWORKS = ("auto", "none", "resnet18", "resnet34", "resnet50", "small", "linear", "radial")
SINGLE_LAYER = ("linear", "radial")
WITHOUT_WEIGHTS = ("small", *SINGLE_LAYER)
DEVICES = ("auto", "cpu", "cuda", "mps")
BATCH_SIZE = 32  # samples a step, where they fit in the memory
SCORING_BATCH_SIZE = 32  # samples that the network scores at a time by default
VARIANTS_PER_EPOCH = ("1", "all")
AUTO, ALL, NONE = "auto", "all", "none"
ON, OFF = "on", "off"
CHOOSABLE = ("source", "variant", "format")  # columns of the store that `where` may name

# Place and speed of the training. A run may be resumed with other values of these: the store may have moved
# (its fingerprint must be the same), and damage to it may have been found since.
MACHINE_FIELDS = ("store", "run", "device", "threads", "in_memory", "save_minutes", "on_bad_sample")

# Removed options that the records of older runs hold, and the value at which each had no effect.
_REMOVED = {
    "shuffle_window": 0, "ema": 0.0, "band_masking": 0.0, "kind_dropout": 0.0, "flips": 0.0, "phase": "raw",
    "mixup": 0.0, "source_penalty": 0.0,
}  # fmt: skip

# Lowest value of each numeric option.
_LEAST = {
    "epochs": 1,
    "batch_size": 2,  # batch normalisation needs two samples
    "threads": 1,
    **dict.fromkeys(("patience", "seed", "weight_decay", "warmup", "save_minutes"), 0),
}

# Highest value of each option whose memory is allocated at once.
_MOST = {"epochs": 10**6, "batch_size": 2**20, "threads": 2**10}

_READING = ("precision", "threads", "in_memory", "on_bad_sample", "save_minutes")  # planes, or saving weights

# Options that have no effect without a network.
OF_NETWORKS = (
    "validate_on", "channels", "balance", "variants_per_epoch", "normalise", "gain", "stem", "weights", "dropout",
    "epochs", "batch_size", "lr", "warmup", "weight_decay", "label_smoothing", "keep",
    "patience", *_READING,
)  # fmt: skip

# Headings of the options.
_FILES, _ROWS, _NETWORK, _RECIPE, _MACHINE = "Files", "What to train on", "Network", "Recipe", "Machine"


@dataclass(frozen=True)
class TrainSettings:
    """Everything that decides the weights of a run, besides the store's content.

    Each field's help documents it. "auto" and None mean a choice that depends on the features and the network;
    `resolve_settings` (`train.resolve`) resolves it. `store` may also be a single string.
    """

    store: tuple[str, ...] = option_field(
        (DEFAULT_STORE,),
        group=_FILES,
        metavar="STORE",
        help="Feature store to train on. Repeat it to train on several stores as one.",
    )
    run: str | None = option_field(
        None,
        group=_FILES,
        metavar="DIR",
        shown="a new one under runs/; with --resume: the newest",
        help="Run folder.",
    )
    where: tuple[str, ...] = option_field(
        (),
        group=_ROWS,
        metavar="COLUMN=VALUE",
        help="Train and validate only on rows with this source, variant or format. VALUE,VALUE means either value. If "
        "the option is repeated, all conditions must hold.",
    )
    hold_out: tuple[str, ...] = option_field(
        (),
        group=_ROWS,
        metavar="SOURCE",
        help="Leave this source out of training and validation. May be repeated.",
    )
    validate_on: tuple[str, ...] = option_field(
        (),
        group=_ROWS,
        metavar="SOURCE",
        help="Validate on this source, not on the store's validation rows, and do not train on it. May be repeated.",
    )
    channels: str = option_field(
        AUTO,
        group=_ROWS,
        metavar="KINDS",
        help="Kinds of planes that the network reads, separated by commas, or all. Other kinds are not read from the "
        "store. auto: all, but not the DCT of averaged planes.",
    )
    balance: str = option_field(
        "none",
        group=_ROWS,
        choices=("none", "class", "source"),
        help="class: draw both classes equally often in an epoch; source: also all sources of a class; none: use every "
        "picture once.",
    )
    variants_per_epoch: str = option_field(
        "1",
        group=_ROWS,
        choices=VARIANTS_PER_EPOCH,
        help="Variants of each picture that an epoch uses: 1, drawn at random, or all.",
    )
    experts: str = option_field(
        AUTO,
        group=_NETWORK,
        choices=(AUTO, ON, OFF),
        help="Fit five small models (experts) to the store's profiles, in seconds, and calibrate them on sources that "
        "a fit left out. A network gets weight only if it helps on such sources. auto: on if the store has profiles.",
    )
    network: str = option_field(
        AUTO,
        group=_NETWORK,
        choices=NETWORKS,
        help="none: experts only; radial: a weight for each radius of each plane (up to 128 bins); linear: a weight "
        "for each frequency; small: a ResNet of 0.3 million parameters; auto: resnet18 for periodograms, otherwise "
        "none with experts and radial without.",
    )
    normalise: str = option_field(
        AUTO,
        group=_NETWORK,
        choices=(AUTO, "frequency", "channel", "sample", "none"),
        help="Normalise the levels by the mean and the deviation of each frequency (frequency) or of each plane "
        "(channel), or by the range of each sample's planes (sample); none: only scale them to between -1 and 1. auto: "
        "channel for radial, otherwise frequency.",
    )
    gain: str = option_field(
        AUTO,
        group=_NETWORK,
        choices=(AUTO, "keep", "remove"),
        help="remove: subtract from each sample the mean of its log magnitudes, which is the picture's contrast. "
        "auto: remove for averaged planes, otherwise keep.",
    )
    stem: str = option_field(
        AUTO,
        group=_NETWORK,
        choices=(AUTO, "strided", "plain"),
        help="First layer of a ResNet: plain keeps the planes' side, strided divides it by 4. auto: plain up to 64 "
        "bins.",
    )
    weights: str | None = option_field(
        None,
        group=_NETWORK,
        metavar="FILE",
        help="File of ImageNet weights from which a ResNet starts (.safetensors or .pth).",
    )
    dropout: float | None = option_field(
        None,
        group=_NETWORK,
        metavar="SHARE",
        shown="0.3; radial: 0",
        help="Share of the last layer's inputs that training drops at random.",
    )
    epochs: int = option_field(20, group=_RECIPE, help="Passes over the training pictures.")
    batch_size: int | None = option_field(
        None,
        group=_RECIPE,
        shown="32, or fewer if memory is short",
        help="Samples in a step.",
    )
    lr: float | None = option_field(
        None,
        group=_RECIPE,
        shown="0.001; linear: 0.0001, radial: 0.01",
        help="Peak learning rate of AdamW.",
    )
    warmup: float = option_field(
        1.0,
        group=_RECIPE,
        metavar="EPOCHS",
        help="Epochs over which the learning rate rises to its peak; at most half of the run.",
    )
    weight_decay: float = option_field(
        0.05,
        group=_RECIPE,
        help="Weight decay of AdamW, on kernels only (not on biases and batch norm).",
    )
    label_smoothing: float = option_field(
        0.05,
        group=_RECIPE,
        help="Label smoothing of the training loss; at 0.05 the target probability is 97.5%.",
    )
    keep: str = option_field(
        AUTO,
        group=_RECIPE,
        choices=(AUTO, "best", "last"),
        help="Keep the weights of the epoch with the best validation loss, or of the last epoch. auto: last for "
        "radial, otherwise best.",
    )
    patience: int | None = option_field(
        None,
        group=_RECIPE,
        shown="6 if the best is kept",
        help="Stop when the validation loss has not improved for this many epochs; 0: never stop early.",
    )
    seed: int = option_field(
        0,
        group=_RECIPE,
        help="Seed of all random draws: initial weights, order of the samples and dropout of a network; folds of the "
        "experts' calibration.",
    )
    device: str = option_field(
        AUTO, group=_MACHINE, choices=DEVICES, help="Device to train on. auto: CUDA, else MPS, else the CPU."
    )
    precision: str = option_field(
        AUTO,
        group=_MACHINE,
        choices=(AUTO, "float32", "bf16"),
        help="Number format of a network's computation. auto: bf16 if the hardware computes it fast, but float32 for "
        "radial and linear.",
    )
    threads: int = option_field(4, group=_MACHINE, help="Threads that read the store.")
    in_memory: float = option_field(
        0.25,
        group=_MACHINE,
        metavar="SHARE",
        help="Keep the planes in memory if they fit in this share of the free memory; 0: read them in every epoch.",
    )
    on_bad_sample: str = option_field(
        "stop",
        group=_MACHINE,
        choices=("stop", "skip"),
        help="stop: end the run at a sample that cannot be read; skip: leave the sample out and count it. "
        "A profile that cannot be read always ends the run.",
    )
    save_minutes: float = option_field(
        10.0,
        group=_MACHINE,
        metavar="MINUTES",
        help="Minutes between saved states within an epoch. The end of each epoch is saved too.",
    )

    def __post_init__(self) -> None:
        convert_fields(self)
        check_choices(self)
        if not self.store:
            raise UsageError("store (): expected at least one feature store")
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and not least <= value < float("inf"):  # refuses NaN too
                raise UsageError(f"{name.replace('_', ' ')} {value}: expected at least {least}")
        for name, most in _MOST.items():
            if (getattr(self, name) or 0) > most:
                raise UsageError(f"{name.replace('_', ' ')} {getattr(self, name)}: expected at most {most}")
        if self.seed >= 2**63:
            raise UsageError(f"seed {self.seed}: expected at most {2**63 - 1}")
        if self.lr is not None and not 0 < self.lr < float("inf"):
            raise UsageError(f"learning rate {self.lr}: expected a number above 0, such as 0.001")
        if not 0 <= self.in_memory <= 1:
            raise UsageError(f"in memory {self.in_memory}: expected a share of the free memory, 0 to 1")
        for name in ("dropout", "label_smoothing"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise UsageError(f"{name.replace('_', ' ')} {value}: expected 0 or more, below 1")
        kinds = KINDS if "," in self.channels else (AUTO, ALL, *KINDS)
        for kind in self.channels.split(","):
            if kind not in kinds:
                raise UsageError(f"channels {kind}: expected one of {', '.join(kinds)}")
        for source in set(self.hold_out) & set(self.validate_on):
            raise UsageError(f"{source}: in both --hold-out and --validate-on; leave out one of them")
        for condition in self.where:
            column, equals, value = condition.partition("=")
            if not (equals and value and column in CHOOSABLE):
                raise UsageError(f"where {condition}: expected COLUMN=VALUE, a column of {', '.join(CHOOSABLE)}")
        self._check_effects()
        # Equal options in another order give equal settings.
        object.__setattr__(self, "where", tuple(sorted(set(map(_sort_values, self.where)))))
        for name in ("hold_out", "validate_on"):
            object.__setattr__(self, name, tuple(sorted(set(getattr(self, name)))))

    def _check_effects(self) -> None:
        """Refuse an option without effect: its user expects an effect."""
        if self.network == NONE:
            if self.experts == OFF:
                raise UsageError("network none and experts off: nothing to train; leave out one of them")
            for one in fields(self):
                if one.name in OF_NETWORKS and getattr(self, one.name) != one.default:
                    raise UsageError(
                        f"{one.name.replace('_', ' ')} {_format_value(getattr(self, one.name))}: no effect on experts; "
                        "name a network with --network, or leave the option out"
                    )
        if self.gain == "remove" and self.normalise == "sample":
            raise UsageError(
                "gain remove: no effect with --normalise sample, which removes the gain too; leave out one of them"
            )
        if self.weights is not None and self.network in WITHOUT_WEIGHTS:
            raise UsageError(
                f"weights: not available for the {self.network} network; name a ResNet with --network, or leave the "
                "option out"
            )
        if self.stem != AUTO and self.network in SINGLE_LAYER:
            raise UsageError(
                f"stem {self.stem}: the {self.network} network has no stem; "
                "name a ResNet or small with --network, or leave the option out"
            )
        if self.patience and self.keep == "last":
            raise UsageError(
                f"patience {self.patience}: no effect if the last epoch's weights are kept; "
                "give --keep best, or leave the option out"
            )

    @property
    def has_experts(self) -> bool:
        """Whether a run has experts; of resolved settings."""
        return self.experts == ON

    @property
    def has_network(self) -> bool:
        """Whether a run has a network on planes; of resolved settings."""
        return self.network != NONE

    def format_model(self) -> str:
        """Format what a run trains, such as "experts" or "experts, resnet18"; of resolved settings."""
        parts = [*(["experts"] if self.has_experts else []), *([self.network] if self.has_network else [])]
        return ", ".join(parts)

    def format_rows(self) -> str:
        """Format which rows a run uses, such as "variant=clean, without midjourney"; "all" for all rows."""
        parts = [
            *self.where,
            *(["without " + " and ".join(self.hold_out)] if self.hold_out else []),
            *(["validated on " + " and ".join(self.validate_on)] if self.validate_on else []),
        ]
        return ", ".join(parts) or "all"

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of planes in `channels`, in the store's order; all kinds if it names none."""
        if self.channels in (AUTO, ALL):
            return KINDS
        return tuple(kind for kind in KINDS if kind in self.channels.split(","))

    def to_dict(self) -> dict:
        """Convert to plain values, for the run folder."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> "TrainSettings":
        """Invert `to_dict`, ignoring removed options; raises TypeError or ValueError for other values."""
        values = {"experts": OFF} | {name: value for name, value in values.items() if name not in _REMOVED}
        if values.get("network") == NONE:  # earlier versions recorded what has no effect
            values = {name: value for name, value in values.items() if name not in _READING}
            if values.get("batch_size") == BATCH_SIZE:
                values["batch_size"] = None
        if isinstance(values.get("store"), str):  # recorded by earlier versions
            values["store"] = [values["store"]]
        check_types(cls, values)
        return cls(**values)

    def differences(self, other: "TrainSettings") -> list[str]:
        """List the names of the fields that decide the weights and differ from those of `other`."""
        return [
            field.name
            for field in fields(self)
            if field.name not in MACHINE_FIELDS and getattr(self, field.name) != getattr(other, field.name)
        ]


def find_removed_options(values: dict) -> dict[str, object]:
    """Return the removed options that a run's record uses, by name."""
    return {name: values[name] for name, off in _REMOVED.items() if values.get(name, off) != off}


def _format_value(value: object) -> str:
    return " and ".join(value) if isinstance(value, tuple) else str(value)


def _sort_values(condition: str) -> str:
    column, _, values = condition.partition("=")
    return f"{column}={','.join(sorted(set(values.split(','))))}"
