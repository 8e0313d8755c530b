"""Stores, runs and cards that an earlier version made (`tests/data`): everything still opens, and means the same."""

import hashlib
import json
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr
from helpers.folders import assert_same_files, read_files
from helpers.pictures import draw_noise

from data_cards.core.errors import UserError
from eval.scores.metrics import CALIBRATION_ERROR
from pipeline.builder.build import build_store
from pipeline.features.versions import get_feature_versions
from pipeline.maintenance.repair import repair_store
from pipeline.maintenance.verify import verify_store
from pipeline.store.reader import open_store
from train.data.loader import read_batches

DATA = Path(__file__).resolve().parents[1] / "data"
PICTURES = "/proc/self/cwd/pictures"  # as the stores record it
# sha256 of all rows, in order, as the earlier version read them.
ROWS = {
    "averaged.zarr": "0243ec9066abd7740bd46d33b657a964547e0113053aa6c15cf5c16dfe187b7d",
    "periodogram.zarr": "dd84f09dc1d272bd9ad6ea0d87b9cf7da3b74625b9551c3ee931a290fbbd7947",
    "profiles.zarr": "50c6b7ebd5d9fd503a52b634fb4489b9d79270d837430d0d30af96645aadf4ac",
}
BUILDS = {
    "averaged.zarr": ("--estimator", "averaged", "--overview", "128", "--variants", "clean"),
    "periodogram.zarr": ("--size", "16", "--levels", "fine", "--variants", "train"),
    "profiles.zarr": ("--size", "16", "--levels", "fine", "--variants", "clean"),
}
STORES = sorted(ROWS)
# Its profiles were computed in another way, which differs in the last bit, so it is read and not added to.
EARLIER_PROFILES = "profiles.zarr"
GROWING = [name for name in STORES if name != EARLIER_PROFILES]
# Arrays whose axes have other names since format version 4.
RENAMED = ("card", "checksums", "features", "profiles", "provenance", "statistics/mean", "statistics/std")
pytestmark = pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="the stores record a path of Linux")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A copy of the data, as the current folder."""
    for name in (*STORES, "pictures", "run", "card"):
        shutil.copytree(DATA / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs a command as `python -m PACKAGE` does; gives its exit status and what it printed on stdout."""

    def run(package, *arguments):
        monkeypatch.setattr(sys, "argv", [package, *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            runpy.run_module(package, run_name="__main__")
        return end.value.code or 0, capsys.readouterr().out

    return run


def build(command, name, out, *sources):
    sources = [word for source in (PICTURES, *sources) for word in ("--src", source)]
    return command("pipeline", "build", *sources, *BUILDS[name], "--out", out, "--workers", 0, "--json")


def skip_unless_made_with_these_versions(name):
    versions = dict(zarr.open_group(name, mode="r").attrs)["versions"]
    if versions != get_feature_versions(profiles=False):
        pytest.skip(f"built with {versions}: libraries that decide the last bit of a feature")


def digest_rows(rows):
    return hashlib.sha256(np.ascontiguousarray(rows).tobytes()).hexdigest()


@pytest.mark.parametrize("name", STORES)
def test_rows_are_read_as_before(folder, name):
    plain = zarr.open(folder / name, mode="r")["features"][:]
    assert digest_rows(plain) == ROWS[name]
    store = open_store(name)
    [batch] = [batch.clone() for batch in read_batches(store, [np.arange(len(store))])]
    assert digest_rows(batch.numpy()) == ROWS[name]
    assert set(store.columns["split"]) == {"train", "val", "test"}


@pytest.mark.parametrize("name", STORES)
def test_store_is_inspected_and_verified(command, name):
    status, text = command("pipeline", "inspect", name, "--json")
    assert (status, json.loads(text)["complete"]) == (0, True)
    assert command("pipeline", "verify", name)[0] == 0


@pytest.mark.parametrize("name", GROWING)
def test_same_build_finds_nothing_to_do(command, name):
    skip_unless_made_with_these_versions(name)
    status, text = build(command, name, name)
    facts = json.loads(text)
    assert (status, facts["shards_made"], facts["added"]) == (0, 0, 0)
    assert_same_files(Path(name), DATA / name)


@pytest.mark.parametrize("name", STORES)
def test_same_build_elsewhere_gives_the_same_bytes(command, name):
    """Except additions since (profiles, checksums, coordinates), metadata, and the card, whose sentences changed."""
    assert build(command, name, "again.zarr")[0] == 0
    skip_unless_made_with_these_versions(name)
    found, wanted = read_files(Path("again.zarr")), read_files(Path(name))
    new = ("profiles/", "checksums/")
    found, wanted = (
        {file: data for file, data in files.items() if not file.startswith((*new, "class/", "plane/"))}
        for files in (found, wanted)
    )
    assert {file for file in wanted if found.get(file) != wanted[file]} == {
        file for file in wanted if file in {"zarr.json", "card/c/0", *(f"{array}/zarr.json" for array in RENAMED)}
    }
    assert found.keys() == wanted.keys()


@pytest.mark.parametrize("name", GROWING)
def test_store_has_no_profiles_and_says_so(name):
    store = open_store(name)
    assert not store.has_profiles
    with pytest.raises(UserError, match=f"{name}: has no profiles.*build it again"):
        store.read_profiles(np.arange(3))


def test_store_of_earlier_profiles_is_not_added_to_and_its_shards_are_kept():
    skip_unless_made_with_these_versions(EARLIER_PROFILES)
    settings = open_store(EARLIER_PROFILES).settings
    with pytest.raises(UserError, match="was made with profiles of an earlier version; this program has profiles 3"):
        build_store([PICTURES], EARLIER_PROFILES, settings, workers=0)
    file = Path(EARLIER_PROFILES, "profiles/c/0/0")
    file.write_bytes(file.read_bytes()[:-1])
    [problem] = repair_store(verify_store(EARLIER_PROFILES))
    assert problem.details == ("profiles of an earlier version then, 3 now",)
    file.write_bytes((DATA / EARLIER_PROFILES / "profiles/c/0/0").read_bytes())
    assert_same_files(Path(EARLIER_PROFILES), DATA / EARLIER_PROFILES)


@pytest.mark.parametrize("name", GROWING)
def test_damaged_shard_is_made_again(command, name):
    file = Path(name, "features/c/0/0/0/0")
    file.write_bytes(file.read_bytes()[:-1])
    assert command("pipeline", "verify", name)[0] == 3
    status, text = command("pipeline", "verify", name, "--repair", "--json")
    skip_unless_made_with_these_versions(name)
    assert (status, json.loads(text)["problems"]) == (0, [])
    assert_same_files(Path(name), DATA / name)


@pytest.mark.parametrize("name", STORES)
def test_damaged_metadata_are_rebuilt_as_they_were(command, name):
    """Also the names of their axes, which later versions changed."""
    skip_unless_made_with_these_versions(name)
    damaged = [array for array in RENAMED if Path(name, array).exists() and array not in ("provenance", "card")]
    for array in (*damaged, "label"):
        file = Path(name, array, "zarr.json")
        file.write_bytes(file.read_bytes().replace(b'"node_type"', b'"node_tyqe"'))
    status, text = command("pipeline", "verify", name, "--repair", "--json")
    assert (status, json.loads(text)["problems"]) == (0, [])
    assert_same_files(Path(name), DATA / name)


@pytest.mark.parametrize("name", STORES)
def test_damaged_card_is_rebuilt_in_the_words_of_this_version(command, name):
    file = Path(name, "card/zarr.json")
    axes = json.loads(file.read_text())["dimension_names"]
    file.write_bytes(file.read_bytes().replace(b'"node_type"', b'"node_tyqe"'))
    status, text = command("pipeline", "verify", name, "--repair", "--json")
    assert (status, json.loads(text)["problems"]) == (0, [])
    assert json.loads(file.read_text())["dimension_names"] == axes
    assert command("pipeline", "verify", name)[0] == 0
    changed = {file for file, data in read_files(DATA / name).items() if read_files(Path(name))[file] != data}
    assert changed == {"zarr.json", "card/zarr.json", "card/c/0"}


@pytest.mark.parametrize("name", GROWING)
def test_store_grows_behind_its_rows(command, name):
    skip_unless_made_with_these_versions(name)
    before = open_store(name).features[:]
    (more := Path("more/train/fake/gan")).mkdir(parents=True)
    for number in range(2):
        draw_noise(500 + number).save(more / f"{number}.png")
    status, text = build(command, name, name, "more")
    facts = json.loads(text)
    assert (status, facts["added"]) == (0, 2)
    rows = open_store(name).features[:]
    assert len(rows) == len(before) // 8 * 10
    np.testing.assert_array_equal(rows[: len(before)], before)
    assert command("pipeline", "verify", name)[0] == 0
    for file in DATA.joinpath(name).rglob("zarr.json"):  # a store keeps its format version, and what belongs to it
        now, then = (json.loads(one.read_text()) for one in (Path(name, file.relative_to(DATA / name)), file))
        assert now.get("dimension_names") == then.get("dimension_names")
    assert {path.name for path in Path(name).iterdir()} == {path.name for path in (DATA / name).iterdir()}


def test_cards_of_store_and_folder_are_the_same_as_before(command):
    status, text = command("pipeline", "card", "averaged.zarr", "--json")
    assert (status, json.loads(text)) == (0, json.loads(Path("card/card.json").read_text()))
    assert command("pipeline", "card", "--diff", "card/card.json", "averaged.zarr")[0] == 0


def test_run_is_listed(command):
    status, text = command("train", "list", ".", "--json")
    [run] = json.loads(text)
    before = json.loads(Path("run/summary.json").read_text())
    assert (status, run["state"], run["epochs"]) == (0, "finished", 2)
    assert run["val_loss"] == before["val_loss"]
    assert run["test_auroc"] is None  # its report left none in the run's own terms


def test_verdicts_are_the_same_as_before(command):
    status, text = command("eval", "predict", "--run", "run", "--json", "pictures/test")
    verdicts, before = json.loads(text), json.loads((DATA / "predictions.json").read_text())
    assert (status, len(verdicts)) == (0, 4)
    for one, expected in zip(verdicts, before, strict=True):
        assert (one["path"], one["verdict"]) == (expected["path"], expected["verdict"])
        assert one["probability_fake"] == pytest.approx(expected["probability_fake"], abs=1e-5)


def test_report_is_the_same_as_before(command):
    before = json.loads(Path("run/report.json").read_text())
    status, text = command("eval", "report", "--run", "run", "--swap-pictures", 2, "--explain-pictures", 2, "--json")
    report = json.loads(Path("run/report.json").read_text())
    assert status == 0
    assert json.loads(text)["headline"] == before["headline"] == "clean"
    for part in ("scopes", "sources"):
        assert without_news(report[part], before[part]) == approximate(before[part])
    for one, expected in zip(report["rows"], before["rows"], strict=True):
        for key in ("sha256", "label", "variant", "verdict", "probability_fake"):
            assert one[key] == approximate(expected[key]), key
    [run] = json.loads(command("train", "list", ".", "--json")[1])
    assert run["test_auroc"][0] == 1


def without_news(value, before):
    """The value without keys that a later version added, and with the bounds of before where these are others now.

    They are others where they had no width, and for the calibration error.
    """
    if isinstance(before, dict) and before.get("low") is not None and before["low"] == before["high"]:
        assert value["low"] <= value["value"] <= value["high"]
        return {**before, "value": value["value"]}
    if isinstance(before, dict):
        return {
            key: {**before[key], "value": one["value"]} if key == CALIBRATION_ERROR else without_news(one, before[key])
            for key, one in value.items()
            if key in before
        }
    if isinstance(before, list):
        return [without_news(one, other) for one, other in zip(value, before, strict=True)]
    return value


def approximate(value):
    """The value, in which every fractional number may differ in its last digits."""
    if isinstance(value, dict):
        return {key: approximate(one) for key, one in value.items()}
    if isinstance(value, list):
        return [approximate(one) for one in value]
    return pytest.approx(value, abs=1e-5) if isinstance(value, float) else value
