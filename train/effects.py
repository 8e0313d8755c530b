"""Options that would change nothing beside the others are refused: whoever gives one expects something of it."""

from typing import TYPE_CHECKING

from data_cards.errors import UsageError
from pipeline.settings import kind_of_planes

if TYPE_CHECKING:
    from train.settings import TrainSettings

SINGLE_LAYER = ("linear", "radial")
WITHOUT_WEIGHTS = ("small", *SINGLE_LAYER)


def refuse_without_effect(settings: "TrainSettings") -> None:
    """Raise `UsageError` for an option that has none, as far as the settings alone tell."""
    if settings.gain == "remove" and settings.normalise == "sample":
        raise UsageError("gain remove: --normalise sample takes it out already; leave out one of the two")
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


def refuse_without_effect_on(settings: "TrainSettings") -> None:
    """Raise `UsageError` for an option that has none on the features that the settings were completed for.

    Parameters
    ----------
    settings : with what "auto" stands for
    """
    of_planes = {kind_of_planes(kind) for kind in settings.kinds}
    if settings.gain == "remove" and "magnitude" not in of_planes:
        raise UsageError(f"gain remove: the planes fed are {settings.channels}; add magnitude or leave it out")
