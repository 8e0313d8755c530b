"""Lookup of a run's stores."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from shlex import quote

import numpy as np

from data_cards.core.errors import UserError
from data_cards.core.labels import CLASS_NAMES, TEST
from pipeline.store.concatenated import ConcatenatedStore, open_stores
from pipeline.store.earlier import find_earlier
from pipeline.store.filesystem import Storage
from pipeline.store.reader import FeatureStore, open_store
from train.run.folder import Run
from train.run.locate import is_starter
from train.run.record import is_opened_unasked


def find_store(run: Run, path: str | Path | None) -> FeatureStore:
    """Open the store of that folder, or the store that the run was trained on (several are concatenated).

    Raises
    ------
    UserError : not found, or built with other feature settings than the run's network reads; or no path, and the run is
        the starter run
    """
    if path is None and is_starter(run):
        raise UserError(
            "runs: no training run in it; make one with `train run`, or give --store, to score the starter run on its "
            "pictures"
        )
    for absent in run.store_paths if path is None else ():
        if is_opened_unasked(absent) and not Storage(absent).exists():
            raise UserError(
                f"{run.path}: its store {absent} was not found; "
                "if it has moved, give its path with --store, else build it again"
            )
    store = run.open_stores() if path is None else open_store(path)
    trained, found = run.build_settings.features, store.settings.features
    if run.settings.has_network and trained != found:
        differing = [
            f"{name} {value} instead of {getattr(trained, name)}"
            for name, value in vars(found).items()
            if value != getattr(trained, name)
        ]
        raise UserError(
            f"{store.path}: built with {', '.join(differing)}, so {run.path} cannot score it; "
            "give a store built as the run's with --store, or train a run on this one"
        )
    return store


def format_next_steps(run: Run, stores: Sequence[str] = ()) -> list[str]:
    """Return the lines that name the report to make of a finished run, also of its held-out sources.

    `stores` are the paths of its stores as the user named them; without them, the recorded ones are opened.
    """
    command = f"report --run {quote(str(run.path))}"
    if len(stores) == 1 and not _is_recorded(run, stores[0]):
        command += f" --store {quote(stores[0])}"
    store = open_stores(stores) if stores else run.open_stores()
    of_test = f"next: {command}"
    if len(np.unique(store.columns["label"][store.rows(TEST)])) < len(CLASS_NAMES):
        of_test = f"next: put pictures under test/real and test/fake, build the store again, then {command}"
    if not run.settings.hold_out:
        return [of_test]
    held_out = np.isin(store.columns["source"], np.array(run.settings.hold_out, dtype=object))
    notes = _format_idle(store, run.settings.hold_out)
    if len(labels := np.unique(store.columns["label"][held_out])) == len(CLASS_NAMES):
        return [*notes, f"next: {command} --split held-out"]
    there = CLASS_NAMES[labels[0]]
    return [
        *notes,
        of_test,
        f"all held-out sources are {there}: their report (--split held-out) needs a held-out source of each class",
    ]


def _is_recorded(run: Run, path: str) -> bool:
    """Return whether a path is the one that the run opens itself."""
    return is_opened_unasked(path) and not {path, os.path.abspath(path)}.isdisjoint(run.store_paths)


def _format_idle(store: FeatureStore, hold_out: tuple[str, ...]) -> list[str]:
    """Return a line on the held-out sources without training pictures; none if there are no such sources."""
    trained = set(store.columns["source"][store.columns["split"] != TEST])
    idle = [name for name in hold_out if name not in trained]
    return (
        [f"note: leaving out {', '.join(idle)} changed nothing: all pictures of it are test pictures"] if idle else []
    )


def is_own_store(run: Run, store: FeatureStore) -> bool:
    """Return whether a store is the one that the run was trained on, possibly moved, or grown since."""
    return store.fingerprint == run.store_fingerprint or (store.path,) == run.store_paths


def find_training_store(run: Run, store: FeatureStore) -> FeatureStore | None:
    """Find the store that the run was trained on: `store`, or the one at its recorded path.

    If neither is unchanged, but one has grown since, or was built again from the same pictures with other settings, the
    result is its earlier state (`pipeline.store.earlier`).

    Returns
    -------
    None if the store is missing, or other pictures are in it.
    """
    if store.fingerprint == run.store_fingerprint:
        return store
    stores = [store]
    with suppress(UserError):
        stores.append(run.open_stores())
    if stores[-1].fingerprint == run.store_fingerprint:
        return stores[-1]
    found = (_find_earlier(run, one) for one in stores)
    return next((one for one in found if one is not None), None)


def _find_earlier(run: Run, store: FeatureStore) -> FeatureStore | None:
    if len(store.parts) != len(run.part_fingerprints):
        return None
    parts = [
        find_earlier(part, fingerprint, run.build_settings)
        for part, fingerprint in zip(store.parts, run.part_fingerprints, strict=True)
    ]
    if any(part is None for part in parts):
        return None
    return parts[0] if len(parts) == 1 else ConcatenatedStore(tuple(parts))
