"""Options that would change nothing beside the others are refused: whoever gives one expects something of it."""

from typing import TYPE_CHECKING

from data_cards.errors import UsageError
from pipeline.settings import FeatureSettings, kind_of_planes

if TYPE_CHECKING:
    from train.settings import TrainSettings

SINGLE_LAYER = ("linear", "radial")
WITHOUT_WEIGHTS = ("small", *SINGLE_LAYER)


def refuse_without_effect(settings: "TrainSettings") -> None:
    """Raise `UsageError` for an option that has none, as far as the settings alone tell."""
    of_planes = {kind_of_planes(kind) for kind in settings.kinds}
    if settings.gain == "remove" and settings.normalise == "sample":
        raise UsageError("gain remove: --normalise sample takes it out already; leave out one of the two")
    if settings.kind_dropout and len(settings.kinds) == 1:
        raise UsageError(
            f"kind dropout {settings.kind_dropout}: only {settings.channels} is fed; give two kinds or leave it out"
        )
    if settings.flips and of_planes == {"dct"}:
        raise UsageError(
            f"flips {settings.flips}: the DCT of a mirrored picture differs in signs only, which no store holds; "
            "add other planes with --channels or leave it out"
        )
    if settings.phase == "cos-sin" and "phase" not in settings.kinds:
        raise UsageError(f"phase cos-sin: the planes fed are {settings.channels}; add phase or leave it out")
    if feeds_waves_alone(settings) and settings.normalise not in ("auto", "none"):
        raise UsageError(
            f"normalise {settings.normalise}: cosine and sine of phases, which alone are fed, are not normalised; "
            "leave it out"
        )
    if settings.weights is not None and settings.network in WITHOUT_WEIGHTS:
        raise UsageError(
            f"weights: there are none for the {settings.network} network; give a ResNet with --network or leave it out"
        )
    if settings.stem != "auto" and settings.network in SINGLE_LAYER:
        raise UsageError(
            f"stem {settings.stem}: the {settings.network} network has none; "
            "give a ResNet or small with --network, or leave it out"
        )
    if settings.patience and settings.keep == "last":
        raise UsageError(
            f"patience {settings.patience}: the last epoch's weights are kept, so the run goes on to its end; "
            "give --keep best or leave it out"
        )


def feeds_waves_alone(settings: "TrainSettings") -> bool:
    """Whether the network is fed cosines and sines and nothing else."""
    return settings.phase == "cos-sin" and settings.kinds == ("phase",)


def refuse_without_effect_on(settings: "TrainSettings", features: FeatureSettings) -> None:
    """Raise `UsageError` for an option that has none on these features.

    Parameters
    ----------
    settings : with what "auto" stands for
    """
    of_planes = {kind_of_planes(kind) for kind in settings.kinds}
    if settings.gain == "remove" and "magnitude" not in of_planes:
        raise UsageError(f"gain remove: the planes fed are {settings.channels}; add magnitude or leave it out")
    # A ring's mean does not change where its values change places; only the phases of periodograms are turned, too.
    turned = "phase" in of_planes and features.estimator != "averaged"
    if settings.flips and settings.network == "radial" and settings.normalise != "frequency" and not turned:
        raise UsageError(
            f"flips {settings.flips}: a mirrored plane has the same means over all directions, which alone the radial "
            "network is fed; give another --network or leave it out"
        )
