"""Resolution of a run's settings: the choices that follow from a store's features."""

from dataclasses import replace

from data_cards.core.errors import UsageError
from pipeline.features.settings import AVERAGED, PERIODOGRAM, FeatureSettings, base_kind
from pipeline.store.schema import BUILD_PLANES
from train.settings import ALL, AUTO, BATCH_SIZE, NONE, OFF, ON, TrainSettings

_DCT = ("dct", "overview-dct")


def resolve_settings(settings: TrainSettings, features: FeatureSettings, has_profiles: bool = False) -> TrainSettings:
    """Return the settings with "all", "auto" and None resolved for a store's features.

    Parameters
    ----------
    settings : as given, or resolved already for the same features
    features : FeatureSettings of the store
    has_profiles : bool, whether the store has profiles, which experts need

    Raises
    ------
    UsageError : the store lacks these kinds of planes or profiles, or an option has no effect on its planes
    """
    if settings.experts == ON and not has_profiles:
        raise UsageError(
            "experts on: the store has no profiles, because an earlier version built it; build it again, or "
            "leave the option out"
        )
    return _resolve_for_planes(
        replace(settings, experts=ON if has_profiles and settings.experts != OFF else OFF), features
    )


def _resolve_for_planes(settings: TrainSettings, features: FeatureSettings) -> TrainSettings:
    network = settings.network
    if network == AUTO:
        periodogram = features.estimator == PERIODOGRAM
        network = (
            "resnet18" if periodogram or settings.weights is not None else NONE if settings.has_experts else "radial"
        )
    if not features.planes and network != NONE:
        asked = f"network {network}" if settings.network != AUTO else "weights" if settings.weights else "experts off"
        raise UsageError(
            f"{asked}: needs a store with planes, and this store has profiles only; leave the option out, or build "
            f"one: {BUILD_PLANES}"
        )
    if network == NONE:
        if settings.device not in (AUTO, "cpu"):
            raise UsageError(f"device {settings.device}: experts are fitted on the CPU; leave the option out")
        return replace(settings, network=NONE)
    missing = set(settings.kinds) - set(features.kinds)
    if missing and settings.channels not in (AUTO, ALL):
        raise UsageError(
            f"channels {settings.channels}: the store has no {', '.join(sorted(missing))}; "
            f"expected kinds among {', '.join(features.kinds)}"
        )
    kinds = [kind for kind in settings.kinds if kind in features.kinds]
    if settings.channels == AUTO and features.estimator == AVERAGED:
        kinds = [kind for kind in kinds if kind not in _DCT]
    averaged = features.estimator == AVERAGED
    magnitudes = any(base_kind(kind) == "magnitude" for kind in kinds)
    gain = settings.gain
    if gain == "auto":
        gain = "remove" if averaged and magnitudes and settings.normalise != "sample" else "keep"
    radial = network == "radial"
    normalise = settings.normalise
    if normalise == "auto":
        normalise = "channel" if radial else "frequency"
    keep = ("last" if radial else "best") if settings.keep == "auto" else settings.keep
    chosen = {
        "lr": {"linear": 1e-4, "radial": 1e-2}.get(network, 1e-3),
        "batch_size": BATCH_SIZE,
        "dropout": 0.0 if radial else 0.3,
        "patience": 6 if keep == "best" else 0,
    }
    chosen = {name: value for name, value in chosen.items() if getattr(settings, name) is None}
    resolved = replace(
        settings, network=network, gain=gain, normalise=normalise, keep=keep, channels=",".join(kinds), **chosen
    )
    if resolved.gain == "remove" and not magnitudes:
        raise UsageError(
            f"gain remove: needs magnitude planes, got {resolved.channels}; add magnitude, or leave the option out"
        )
    return resolved
