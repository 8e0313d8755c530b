"""Checks of a run's settings file, which is untrusted: it may come from somebody else."""

from typing import Any

from data_cards.core.labels import CLASS_NAMES
from pipeline.features.settings import FeatureSettings
from train.resolve import resolve_settings
from train.settings import TrainSettings

_REMOTE = "s3://"


def check_store_path(path: Any) -> str:
    """Return the path of a store that a run names; raises `ValueError` for other values."""
    if not isinstance(path, str) or not path or "\0" in path:
        raise ValueError(f"a store {str(path)[:60]!r}, expected the path of a folder")
    return path


def is_opened_unasked(path: str) -> bool:
    """Return whether a store that a run names is a local folder or object storage, not an address to fetch."""
    is_local = "://" not in path and not path.startswith("data:")
    return "::" not in path and (is_local or path.startswith(_REMOTE))


def check_texts(record: dict, *names: str) -> None:
    """Raise `ValueError` if a value of the record is not a text."""
    for name in names:
        if not isinstance(record[name], str):
            raise ValueError(f"{name} is {str(record[name])[:60]}, expected a text")


def check_class_names(names: Any) -> None:
    """Raise `ValueError` if the classes differ from those of a network's outputs."""
    if names != list(CLASS_NAMES):
        raise ValueError(f"classes {str(names)[:60]}, expected {', '.join(CLASS_NAMES)}")


def check_resolved(settings: TrainSettings, features: FeatureSettings) -> None:
    """Raise `ValueError` if settings of a run are not resolved, or do not fit its planes."""
    if resolve_settings(settings, features, settings.has_experts) != settings:
        raise ValueError("its options do not fit its planes")
    if not (settings.has_experts or settings.has_network):
        raise ValueError("it has neither experts nor a network")
