"""The settings of a training run: every value that decides its weights, with its default.

The command's options are made from these fields, so a default is written down once.
"""

from dataclasses import asdict, dataclass, fields, replace

from data_cards.errors import UsageError
from pipeline.settings import KINDS, FeatureSettings, kind_of_planes
from train.effects import refuse_without_effect, refuse_without_effect_on

NETWORKS = ("auto", "resnet18", "resnet34", "resnet50", "small", "linear", "radial")
STEMS = ("auto", "strided", "plain")
NORMALISE = ("auto", "frequency", "channel", "sample", "none")
DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "float32", "bf16")
VARIANTS_PER_EPOCH = ("1", "all")
ON_BAD_SAMPLE = ("stop", "skip")
BALANCES = ("none", "class", "source")
GAINS = ("auto", "keep", "remove")
KEPT = ("auto", "best", "last")
AUTO, ALL = "auto", "all"
_DCT = ("dct", "overview-dct")
CHOOSABLE = ("source", "variant", "format")  # columns of the store that `where` may name

# Where and how fast a run is trained. A run may be resumed with other values of these; the store
# may have moved, but its fingerprint must be the same; damage to it may have been found meanwhile.
OF_THE_MACHINE = ("store", "run", "device", "threads", "save_minutes", "on_bad_sample")


# Options that earlier versions had, which their runs' records hold, and the value at which each did nothing.
_REMOVED = {"shuffle_window": 0, "ema": 0.0, "band_masking": 0.0, "kind_dropout": 0.0, "flips": 0.0, "phase": "raw"}


@dataclass(frozen=True)
class TrainSettings:
    """Everything that decides the weights of a run, besides the store's content.

    Attributes
    ----------
    store : folders of the feature stores, whose rows are trained on as one set; a single one may be a plain string
    run : run folder; None makes a new one under `runs/`
    channels : kinds of planes that the network is fed, separated by commas, "all" that the store has, or "auto": all,
        of averaged planes all but the DCT's; the others are not read
    where : "column=value" or "column=value,value": only such rows are trained and validated on; all of them must hold
    hold_out : sources that are neither trained nor validated on
    validate_on : sources that are validated on in place of the store's validation rows, and not trained on
    balance : "class" takes both classes equally often an epoch, "source" also the sources of each; "none" every
        picture once
    epochs : passes over the training pictures, at least 1
    batch_size : samples a step, at least 2
    lr : peak learning rate of AdamW, above 0; None: 0.0001 for the linear network, whose many values all push one
        way, 0.01 for the radial one, which has few, 0.001 for the others
    weight_decay : of AdamW, on kernels only (not on biases and batch norm), 0 or more
    warmup : epochs in which the learning rate rises to its peak; may be a fraction; at most half of the run
    dropout : share of what the last layer is fed that is dropped, 0 to below 1; None: 0 for the radial network, whose
        few weights need none, 0.3 for the others
    label_smoothing : 0 to below 1, in the training loss only
    patience : epochs without a better validation objective after which the run stops; 0 never stops it; None: 6 where
        the best epoch is kept, else 0
    keep : weights of the "best" epoch by validation loss, or of the "last", which the whole schedule was for; "auto":
        last for the radial network, else best
    mixup : alpha of the Beta distribution that shares of mixed samples are drawn from; 0 mixes none
    source_penalty : on the variance of the sources' losses, 0 or more (`train.sources`); None: 10 for the radial
        network, 0 for the others
    normalise : by mean and deviation of each "frequency" or of each "channel", by the own range of each "sample", or
        "none"; "auto": channel for the radial network, whose weights then make more of the frequencies that differ
        most, else frequency
    gain : "keep", or "remove" what all of a sample's log magnitudes have in common, which is its contrast; "auto":
        remove for averaged planes, unless each sample is normalised by its own range, else keep
    network : "resnet18", "resnet34", "resnet50", "small" with 0.3 million parameters, "linear" with one weight a value,
        "radial" with one weight a radius of each plane, or "auto": radial for averaged planes, else resnet18
    stem : "strided", "plain" for small planes, or "auto" by the planes' side
    weights : file of ImageNet weights to start from (.safetensors or .pth); None starts from scratch
    variants_per_epoch : "1" draws one variant of each picture an epoch; "all" takes every one
    seed : of first weights, order and all that is drawn, 0 or more
    device : "auto" takes CUDA, else MPS, else the CPU
    precision : "auto" takes bf16 where the hardware is good at it
    threads : that read the store
    on_bad_sample : "stop" ends the run at a sample that cannot be read; "skip" leaves it out and counts it
    save_minutes : minutes between saved states within an epoch; each epoch's end is saved anyway
    """

    store: tuple[str, ...] = ("features.zarr",)
    run: str | None = None
    channels: str = AUTO
    where: tuple[str, ...] = ()
    hold_out: tuple[str, ...] = ()
    validate_on: tuple[str, ...] = ()
    balance: str = "none"
    epochs: int = 20
    batch_size: int = 32
    lr: float | None = None
    weight_decay: float = 0.05
    warmup: float = 1.0
    dropout: float | None = None
    label_smoothing: float = 0.05
    patience: int | None = None
    keep: str = "auto"
    mixup: float = 0.0
    source_penalty: float | None = None
    normalise: str = "auto"
    gain: str = "auto"
    network: str = "auto"
    stem: str = "auto"
    weights: str | None = None
    variants_per_epoch: str = "1"
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    threads: int = 4
    on_bad_sample: str = "stop"
    save_minutes: float = 10.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "store", (self.store,) if isinstance(self.store, str) else tuple(self.store))
        _at_least("epochs", self.epochs, 1)
        _at_least("batch size", self.batch_size, 2, "batch normalisation needs two samples")
        _at_least("patience", self.patience or 0, 0)
        _one_of("balance", self.balance, BALANCES)
        _at_least("threads", self.threads, 1)
        _between("seed", self.seed, 0, 2**63 - 1)
        _at_least("weight decay", self.weight_decay, 0)
        _at_least("warmup", self.warmup, 0)
        _at_least("save minutes", self.save_minutes, 0)
        if self.lr is not None and not 0 < self.lr < float("inf"):
            raise UsageError(f"learning rate {self.lr}: expected a number above 0, such as 0.001")
        for name in ("dropout", "label_smoothing"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise UsageError(f"{name.replace('_', ' ')} {value}: expected 0 or more, below 1")
        _at_least("mixup", self.mixup, 0)
        if self.source_penalty is not None:
            _at_least("source penalty", self.source_penalty, 0)
            if self.source_penalty and self.mixup:
                raise UsageError(
                    f"source penalty {self.source_penalty}: samples mixed with others have no one source; "
                    "leave out --mixup or --source-penalty"
                )
        for kind in self.channels.split(","):
            _one_of("channels", kind, KINDS if "," in self.channels else (AUTO, ALL, *KINDS))
        for source in set(self.hold_out) & set(self.validate_on):
            raise UsageError(f"{source}: either left out (--hold-out) or validated on (--validate-on), not both")
        for condition in self.where:
            column, equals, value = condition.partition("=")
            if not (equals and value and column in CHOOSABLE):
                raise UsageError(f"where {condition}: expected COLUMN=VALUE, a column of {', '.join(CHOOSABLE)}")
        _one_of("on bad sample", self.on_bad_sample, ON_BAD_SAMPLE)
        for name, allowed in (("network", NETWORKS), ("stem", STEMS), ("normalise", NORMALISE)):
            _one_of(name, getattr(self, name), allowed)
        _one_of("gain", self.gain, GAINS)
        _one_of("keep", self.keep, KEPT)
        _one_of("device", self.device, DEVICES)
        _one_of("precision", self.precision, PRECISIONS)
        _one_of("variants per epoch", self.variants_per_epoch, VARIANTS_PER_EPOCH)
        refuse_without_effect(self)
        # The same in whatever order they are given.
        object.__setattr__(self, "where", tuple(sorted(set(map(_sort_values, self.where)))))
        for name in ("hold_out", "validate_on"):
            object.__setattr__(self, name, tuple(sorted(set(getattr(self, name)))))

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of planes of `channels`, in the store's order; all that there can be where it names none."""
        if self.channels in (AUTO, ALL):
            return KINDS
        return tuple(kind for kind in KINDS if kind in self.channels.split(","))

    def for_features(self, features: FeatureSettings) -> "TrainSettings":
        """The same with what "all", "auto" and None stand for.

        Raises
        ------
        UsageError : kinds of planes that are not there, or an option without effect on those that are
        """
        missing = set(self.kinds) - set(features.kinds)
        if missing and self.channels not in (AUTO, ALL):
            raise UsageError(
                f"channels {self.channels}: the store has no {', '.join(sorted(missing))}, "
                f"only {', '.join(features.kinds)}"
            )
        kinds = [kind for kind in self.kinds if kind in features.kinds]
        if self.channels == AUTO and features.estimator == "averaged":
            kinds = [kind for kind in kinds if kind not in _DCT]
        network, averaged = self.network, features.estimator == "averaged"
        if network == "auto":
            network = "radial" if averaged and self.weights is None else "resnet18"
        magnitudes = any(kind_of_planes(kind) == "magnitude" for kind in kinds)
        gain = self.gain
        if gain == "auto":
            gain = "remove" if averaged and magnitudes and self.normalise != "sample" else "keep"
        radial = network == "radial"
        normalise = self.normalise
        if normalise == "auto":
            normalise = "channel" if radial else "frequency"
        keep = ("last" if radial else "best") if self.keep == "auto" else self.keep
        chosen = {
            "lr": {"linear": 1e-4, "radial": 1e-2}.get(network, 1e-3),
            "dropout": 0.0 if radial else 0.3,
            "source_penalty": 10.0 if radial and not self.mixup else 0.0,
            "patience": 6 if keep == "best" else 0,
        }
        chosen = {name: value for name, value in chosen.items() if getattr(self, name) is None}
        settings = replace(
            self, network=network, gain=gain, normalise=normalise, keep=keep, channels=",".join(kinds), **chosen
        )
        refuse_without_effect_on(settings)
        return settings

    def as_json(self) -> dict:
        """Plain values, for the run folder."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict) -> "TrainSettings":
        """The inverse of `as_json`, without the options that were removed; raises TypeError for an unknown name."""
        values = {name: value for name, value in values.items() if name not in _REMOVED}
        lists = {name: tuple(values.get(name, ())) for name in ("where", "hold_out", "validate_on")}
        return cls(**{**values, **lists})

    def differences(self, other: "TrainSettings") -> list[str]:
        """Names of the fields that decide the weights and differ from `other`'s."""
        return [
            field.name
            for field in fields(self)
            if field.name not in OF_THE_MACHINE and getattr(self, field.name) != getattr(other, field.name)
        ]


def removed_options(values: dict) -> dict[str, object]:
    """The options of a run's record that were in use and that this program no longer has, by name."""
    return {name: values[name] for name, off in _REMOVED.items() if values.get(name, off) != off}


def _sort_values(condition: str) -> str:
    column, _, values = condition.partition("=")
    return f"{column}={','.join(sorted(set(values.split(','))))}"


def _at_least(name: str, value: float, least: float, why: str = "") -> None:
    if not least <= value < float("inf"):  # refuses NaN too
        reason = f" ({why})" if why else ""
        raise UsageError(f"{name} {value}: expected at least {least}{reason}")


def _between(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise UsageError(f"{name} {value}: expected {least} to {most}")


def _one_of(name: str, value: object, allowed: tuple) -> None:
    if value not in allowed:
        raise UsageError(f"{name} {value}: expected one of {', '.join(map(str, allowed))}")
