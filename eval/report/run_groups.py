"""Runs to compare, by name, and the options of `train run` and `pipeline build` in which they differ.

Runs of one name were trained in the same way, with different seeds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data_cards.core.errors import UsageError
from data_cards.core.options import NO_VALUE, list_option_values
from train.run.folder import Run
from train.run.locate import find_run
from train.settings import MACHINE_FIELDS, OF_NETWORKS

SEED_OPTION = "train run --seed"

_TRAIN, _BUILD = "train run", "pipeline build"
_OF_NETWORKS = [f"{_TRAIN} --{name.replace('_', '-')}" for name in OF_NETWORKS]
_FINGERPRINT = 8  # digits shown of a store's fingerprint, which differs if its contents differ


@dataclass(frozen=True)
class RunGroup:
    """One or more runs that are compared under one name; `run_names` are unique over all groups."""

    name: str
    runs: tuple[Run, ...]
    run_names: tuple[str, ...]


def open_groups(given: Sequence[str | Path]) -> list[RunGroup]:
    """Open runs that are given as a folder or as NAME=FOLDER.

    Raises
    ------
    UsageError : fewer than two names, a run twice, or runs of one name with the same settings and seed
    UserError : no such run
    """
    parsed = [_parse_run(one) for one in given]
    runs = [find_run(path) for _, path in parsed]
    run_names = _name_runs([run.path for run in runs])
    groups: dict[str, list[int]] = {}
    for number, ((name, _), run_name) in enumerate(zip(parsed, run_names, strict=True)):
        groups.setdefault(name or run_name, []).append(number)
    for name, numbers in groups.items():
        if any(parsed[number][0] is None for number in numbers) and len(numbers) > 1:
            raise UsageError(f"{name}: the name of a run's folder and of a group; give the group another name")
    if len(groups) < 2:
        what = "one run" if len(runs) == 1 else f"all runs have the name {next(iter(groups))}"
        raise UsageError(f"{what}: expected at least two to compare; give another --run")
    found = [
        RunGroup(name, tuple(runs[n] for n in numbers), tuple(run_names[n] for n in numbers))
        for name, numbers in groups.items()
    ]
    for group in found:
        _check_seeds(group)
    return found


def list_differing_options(groups: Sequence[RunGroup]) -> list[dict]:
    """List the options in which the groups differ: `option`, such as "train run --seed", and `values` by group.

    Options of place and speed are left out; stores count as different only if their contents differ, and runs without
    a network have no options of networks.
    """
    return _list_differing([(group.name, group.runs) for group in groups])


def find_mixed_options(group: RunGroup) -> list[str]:
    """Return the options other than the seed in which runs of a group differ."""
    rows = _list_differing([(name, (run,)) for name, run in zip(group.run_names, group.runs, strict=True)])
    return [row["option"] for row in rows if row["option"] != SEED_OPTION]


def _list_differing(named: Sequence[tuple[str, Sequence[Run]]]) -> list[dict]:
    has_other_stores = len({run.store_fingerprint for _, runs in named for run in runs}) > 1
    values = {name: [_list_options(run, has_other_stores) for run in runs] for name, runs in named}
    options = dict.fromkeys(option for listed in values.values() for one in listed for option in one)
    without = {name for name, runs in named if not any(run.settings.has_network for run in runs)}
    rows = []
    for option in options:
        shown = {
            name: ", ".join(dict.fromkeys(one.get(option, NO_VALUE) for one in listed))
            for name, listed in values.items()
        }
        having = shown.keys() - without if option in _OF_NETWORKS else shown.keys()
        if len({shown[name] for name in having}) > 1:
            rows.append({"option": option, "values": shown})
    return rows


def _list_options(run: Run, with_store: bool) -> dict[str, str]:
    left_out = {f"--{name.replace('_', '-')}" for name in MACHINE_FIELDS}
    options = {
        f"{_TRAIN} {flag}": value for flag, value in list_option_values(run.settings).items() if flag not in left_out
    }
    if not run.settings.has_network:
        options |= dict.fromkeys(_OF_NETWORKS, NO_VALUE)
    options |= {f"{_TRAIN} --{name.replace('_', '-')}": str(value) for name, value in run.removed.items()}
    if with_store:
        options = {f"{_TRAIN} --store": ", ".join(run.store_paths)} | options
    options["store's fingerprint"] = run.store_fingerprint[:_FINGERPRINT]
    for settings in (run.build_settings.features, run.build_settings):
        options |= {f"{_BUILD} {flag}": value for flag, value in list_option_values(settings).items()}
    return options


def _parse_run(given: str | Path) -> tuple[str | None, str | Path]:
    if isinstance(given, Path) or "=" not in given or Path(given).exists():
        return None, given
    name, _, path = given.partition("=")
    if not name or not path:
        raise UsageError(f"run {given}: expected a run folder, or NAME=FOLDER")
    return name, path


def _name_runs(paths: Sequence[Path]) -> list[str]:
    """Name runs by their folders, or by their whole paths where two folders have the same name."""
    twice = [path for number, path in enumerate(paths) if path.resolve() in [one.resolve() for one in paths[:number]]]
    if twice:
        raise UsageError(f"{twice[0]}: named twice; expected different runs; leave one out")
    names = [path.resolve().name for path in paths]
    return names if len(set(names)) == len(names) else [str(path) for path in paths]


def _check_seeds(group: RunGroup) -> None:
    seen: dict[tuple, str] = {}
    for name, run in zip(group.run_names, group.runs, strict=True):
        key = tuple(_list_options(run, True).items())
        if key in seen:
            raise UsageError(
                f"{group.name}: {seen[key]} and {name} have the same settings and seed {run.settings.seed}; expected "
                "runs with different seeds, because equal runs do not show the luck of training"
            )
        seen[key] = name
