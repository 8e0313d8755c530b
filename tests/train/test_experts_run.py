"""Runs of experts, alone and beside a network: what they write, resume and count."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import zarr
from click.testing import CliRunner
from helpers.make_store import make_store

from data_cards.core.errors import StoreError, UsageError, UserError
from eval.cli.main import cli as eval_cli
from pipeline.features.settings import FeatureSettings
from pipeline.store.reader import open_store
from train.cli import cli
from train.data.expert_rows import choose_expert_rows
from train.data.row_selection import choose_rows
from train.loop.experts import fit_network_weight, weigh_network
from train.loop.trainer import resume, train
from train.resolve import resolve_settings
from train.run.experts_file import EXPERTS_FILE, load_experts, save_experts
from train.run.folder import find_newest_run, load_detector, open_run
from train.run.listing import list_runs
from train.run.run_stores import format_next_steps
from train.settings import TrainSettings

SMALL = {"epochs": 1, "batch_size": 8, "device": "cpu", "precision": "float32", "network": "small"}
NO_PLANES = FeatureSettings()
PLANES = FeatureSettings(size=32)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("experts") / "features.zarr")


@pytest.fixture(scope="module")
def alone(store):
    train(TrainSettings(store=str(store), run=str(store.parent / "alone"), network="none"))
    return store.parent / "alone"


@pytest.fixture(scope="module")
def beside(store):
    train(TrainSettings(store=str(store), run=str(store.parent / "beside"), **SMALL))
    return store.parent / "beside"


def test_experts_alone_leave_few_files_and_a_summary(alone):
    assert {file.name for file in alone.iterdir()} == {
        "settings.json", "data_card.json", EXPERTS_FILE, "summary.json",
    }  # fmt: skip
    summary = json.loads((alone / "summary.json").read_text())
    assert summary["state"] == "finished"
    assert summary["val_accuracy"] > 0.9
    (listed,) = [one for one in list_runs(alone.parent) if one.run == alone]
    assert (listed.network, listed.state, listed.epochs) == ("experts", "finished", None)
    assert listed.val_loss == summary["val_loss"]


def test_experts_score_rows_of_a_store(alone, store):
    opened, run = open_store(store), open_run(alone)
    detector, rows = load_detector(run), opened.rows("test")
    scores = detector.score_rows(opened, rows)
    assert scores.logits.shape == (len(rows), 2)
    right = scores.logits.argmax(1) == opened.columns["label"][rows]
    assert right.mean() > 0.9
    again = detector.score([np.zeros((1, 0, 0, 0), np.uint8)] * len(rows), opened.read_profiles(rows))
    np.testing.assert_array_equal(again.logits, scores.logits)
    assert detector.kinds == ()


def test_experts_alone_are_the_same_each_time_and_resume_to_the_same(alone, store, tmp_path):
    train(TrainSettings(store=str(store), run=str(tmp_path / "run"), network="none"))
    wanted = (alone / EXPERTS_FILE).read_bytes()
    assert (tmp_path / "run" / EXPERTS_FILE).read_bytes() == wanted
    assert resume(tmp_path / "run").state == "finished"  # at once
    with pytest.raises(UsageError, match="has experts alone, which have no epochs"):
        resume(tmp_path / "run", {"epochs": 40})
    for name in (EXPERTS_FILE, "summary.json"):  # as after a kill
        (tmp_path / "run" / name).unlink()
    with pytest.raises(UserError, match="has no finished epoch yet"):
        open_run(tmp_path / "run")
    assert resume(tmp_path / "run").state == "finished"
    assert (tmp_path / "run" / EXPERTS_FILE).read_bytes() == wanted


def test_failed_experts_are_listed_with_the_reason_until_a_resumption_fits_them(tmp_path):
    path, run = make_store(tmp_path / "features.zarr"), tmp_path / "runs/run"
    shard = path / "profiles/c/0/0"
    whole = shard.read_bytes()
    shard.write_bytes(bytes(len(whole)))
    with pytest.raises(StoreError):
        train(TrainSettings(store=str(path), run=str(run), network="none"))
    [listed] = list_runs(run.parent)
    assert (listed.state, listed.loss) == ("failed", None)
    assert listed.problem.startswith(f"{run}: failed: {path}: row 0 ")
    shard.write_bytes(whole)
    resume(run)
    [listed] = list_runs(run.parent)
    assert (listed.state, listed.problem) == ("finished", None)


def test_network_beside_experts_has_a_weight_and_counts(beside, store):
    opened, run = open_store(store), open_run(beside)
    assert run.settings.format_model() == "experts, small"
    detector, rows = load_detector(run, "cpu"), opened.rows("test")
    weight = load_experts(beside).network_weight
    assert 0 <= weight <= 2
    experts = detector.experts.compute_log_odds(opened.read_profiles(rows))
    logits = detector.score_rows(opened, rows, progress=False).logits
    assert not np.allclose(logits[:, 1] - logits[:, 0], experts) or weight == 0
    assert detector.calibration == detector.experts.calibration


def test_network_counts_only_if_it_was_tested_on_other_sources(tmp_path):
    opened = open_store(make_store(tmp_path / "a.zarr", size=8, signal=0, sources=4))  # experts can only guess
    settings = resolve_settings(TrainSettings(store=opened.path, network="small"), opened.settings.features, True)
    first = np.isin(opened.columns["source"], ["source-0", "source-1"])
    rows, every = np.arange(len(opened)), opened.rows("train")
    logits = 6.0 * np.eye(2)[opened.columns["label"].astype(int)]
    for trained, tested, counts in ((rows[first], rows[~first], True), (rows[first], rows, True), (every, rows, False)):
        weigh_network(tmp_path, settings, opened, trained, tested, logits[tested])
        assert (load_experts(tmp_path).network_weight > 0) == counts


def test_network_that_cannot_count_is_said_before_its_first_epoch(store, tmp_path, capsys):
    train(TrainSettings(store=str(store), run=str(tmp_path / "run"), **SMALL))
    lines = capsys.readouterr().err.splitlines()
    warned = [number for number, line in enumerate(lines) if "the network will not count beside the experts" in line]
    assert warned
    assert warned[0] < next(number for number, line in enumerate(lines) if line.startswith("epoch 1"))
    assert load_experts(tmp_path / "run").network_weight == 0


def test_network_alone_with_one_source_of_a_class_is_always_unsure(tmp_path, capsys):
    path = make_store(tmp_path / "a.zarr", sources=1, pictures={"train": (40, 40), "val": (40, 40)}, size=8)
    options = {"network": "linear", "experts": "off", "device": "cpu", "epochs": 3, "batch_size": 8, "lr": 0.01}
    for name, made, unsure in (
        ("one", path, True),
        ("two", make_store(tmp_path / "b.zarr", pictures={"train": (40, 40), "val": (40, 40)}, size=8), False),
    ):
        train(TrainSettings(store=str(made), run=str(tmp_path / name), **options))
        assert ("so every verdict will be unsure" in " ".join(capsys.readouterr().err.split())) == unsure
        assert load_detector(open_run(tmp_path / name), "cpu").calibration.is_always_unsure == unsure


def test_lines_of_epochs_come_before_the_weight_of_the_network(store, tmp_path):
    options = ["--epochs", "2", "--batch-size", "8", "--network", "small"]
    result = CliRunner().invoke(cli, ["run", "--store", str(store), "--run", str(tmp_path / "run"), *options])
    assert result.exit_code == 0, result.output
    lines = result.stderr.splitlines()
    begun = next(number for number, line in enumerate(lines) if line.startswith("epoch 1/2"))
    assert [line.split()[0] for line in lines[begun:]] == ["epoch", "epoch"]
    assert "\nnetwork " in result.stdout


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_table_and_list_show_the_experts_scores_where_the_network_does_not_count(alone, beside, tmp_path, weight):
    copied = tmp_path / "runs" / "run"
    shutil.copytree(beside, copied)
    save_experts(replace(load_experts(copied), network_weight=weight), copied)
    (copied / "summary.json").unlink()  # as after a kill
    result = CliRunner().invoke(cli, ["run", "--resume", "--run", str(copied)])
    assert result.exit_code == 0, result.output
    of_experts = json.loads((alone / "summary.json").read_text())["val_loss"]  # the same fit
    assert f"loss on sources left out {of_experts:.4f}" in " ".join(result.stdout.split())
    assert ("does not count, because it did not clearly improve" in result.stdout) == (weight == 0)
    assert ("network alone, validation loss" in result.stdout) == (weight > 0)
    (listed,) = list_runs(copied.parent)
    assert (listed.loss, listed.measured_on) == ((of_experts, "left out") if weight == 0 else (None, None))


def test_pictures_left_out_are_named_once_by_each_training(tmp_path, capsys):
    """A training picture of the second store is a near-duplicate of the first store's test picture 12."""
    small = {"pictures": {"train": (4, 4), "val": (2, 2), "test": (2, 2)}, "size": 8}
    first = make_store(tmp_path / "first.zarr", **small)
    second = make_store(tmp_path / "second.zarr", seed=1, first=100, near=12, **small)
    stores = str(first), str(second)

    def count_lines():
        return capsys.readouterr().err.count("1 picture (1 sample) left out: near-duplicates of validation or test")

    train(TrainSettings(store=stores, run=str(tmp_path / "run"), **SMALL))
    assert count_lines() == 1
    resume(tmp_path / "run", {"epochs": 2})
    assert count_lines() == 1
    train(TrainSettings(store=stores, run=str(tmp_path / "alone"), network="none"))
    assert count_lines() == 1


def test_network_of_weight_0_is_not_computed_and_the_report_says_so(beside, tmp_path):
    copied = tmp_path / "run"
    shutil.copytree(beside, copied)
    save_experts(replace(load_experts(copied), network_weight=0.0), copied)
    (copied / "best.safetensors").write_bytes(b"damaged")  # nothing of it is read
    assert load_detector(open_run(copied)).kinds == ()
    result = CliRunner().invoke(eval_cli, ["report", "--run", str(copied), "--full"])
    assert result.exit_code == 0, result.output
    assert "the network has weight 0 beside the experts, so no score depends on it" in " ".join(result.stdout.split())
    assert "the network has weight 0 beside the experts" in (copied / "report.html").read_text()


def test_network_that_helps_counts_and_one_that_harms_does_not():
    rng = np.random.default_rng(0)
    labels, sources = np.tile([0, 1], 200), np.repeat([f"s{number}" for number in range(8)], 50)
    signs = 2 * labels - 1
    experts = 0.5 * signs + rng.normal(0, 1, 400)
    assert fit_network_weight(experts, signs + rng.normal(0, 1, 400), labels, sources) > 0.5
    assert fit_network_weight(experts, -signs + rng.normal(0, 1, 400), labels, sources) == 0


def test_network_that_helps_on_one_source_alone_does_not_count():
    rng = np.random.default_rng(0)
    labels, sources = np.tile([0, 1], 200), np.repeat([f"s{number}" for number in range(8)], 50)
    signs = 2 * labels - 1
    experts, network = 0.5 * signs + rng.normal(0, 1, 400), 0.1 * rng.normal(0, 1, 400)
    network[sources == "s0"] = 3 * signs[sources == "s0"]
    assert fit_network_weight(experts, network, labels, sources) == 0


def test_network_beside_experts_is_validated_on_sources_that_it_does_not_train_on(tmp_path):
    path = make_store(tmp_path / "features.zarr", pictures={"train": (24, 24), "val": (6, 6), "test": (6, 6)})
    opened = open_store(path)
    columns = opened.columns
    columns["source"] = np.array([f"{one}-{row % 6}" for row, one in enumerate(columns["source"])], dtype=object)
    settings = resolve_settings(TrainSettings(store=str(path), **SMALL), PLANES, has_profiles=True)
    rows = choose_rows(opened, settings)
    assert not set(columns["source"][rows.train]) & set(columns["source"][rows.val])
    assert set(columns["label"][rows.val]) == {0, 1}


def test_rows_of_a_large_store_are_drawn_evenly_from_its_sources(tmp_path, monkeypatch):
    path = make_store(tmp_path / "features.zarr", pictures={"train": (30, 8)}, variants=("clean", "web"), size=8)
    opened = open_store(path)
    settings = resolve_settings(TrainSettings(store=str(path), network="none"), PLANES, has_profiles=True)
    assert len(choose_expert_rows(opened, settings)) == 76
    monkeypatch.setattr("train.data.expert_rows.MOST_ROWS", 32)
    rows = choose_expert_rows(opened, settings)
    names = [f"{opened.columns['label'][row]} {opened.columns['source'][row]}" for row in rows]
    assert sorted(np.unique(names, return_counts=True)[1].tolist()) == [8, 8, 8, 8]
    assert len(np.unique(opened.columns["picture"][rows])) == 16  # all variants of each


@pytest.mark.parametrize("options", [{"network": "none"}, SMALL], ids=["alone", "beside"])
@pytest.mark.parametrize(("labels", "alone"), [(0, "real and fake"), (1, "fake")])
def test_rows_of_a_class_that_are_all_shrunk_are_refused_before_a_run_is_written(tmp_path, options, labels, alone):
    path = make_store(tmp_path / "features.zarr", variants=("clean", "shrunk"))
    root = zarr.open_group(path, mode="r+")
    kept = root["label"][:] < labels  # of these, other variants are chosen too
    root["format"][:] = np.where(kept | (root["variant"][:] == "shrunk"), "png", "jpeg")
    settings = TrainSettings(store=str(path), run=str(tmp_path / "run"), where=("format=png",), **options)
    with pytest.raises(UserError, match=f"all {alone} rows to train on are of the variant shrunk.*; change --where"):
        train(settings)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("given", "features", "profiles", "experts", "network"),
    [
        ({}, NO_PLANES, True, "on", "none"),
        ({}, PLANES, True, "on", "resnet18"),
        ({}, PLANES, False, "off", "resnet18"),
        ({}, FeatureSettings(estimator="averaged"), True, "on", "none"),
        ({}, FeatureSettings(estimator="averaged"), False, "off", "radial"),
        ({"experts": "off"}, PLANES, True, "off", "resnet18"),
        ({"network": "none"}, PLANES, True, "on", "none"),
    ],
)
def test_experts_and_network_follow_the_store(given, features, profiles, experts, network):
    settings = resolve_settings(TrainSettings(**given), features, profiles)
    assert (settings.experts, settings.network) == (experts, network)
    assert resolve_settings(settings, features, profiles) == settings


@pytest.mark.parametrize(
    ("given", "features", "profiles", "message"),
    [
        ({"experts": "on"}, PLANES, False, "experts on: the store has no profiles"),
        ({"experts": "off"}, NO_PLANES, True, "experts off: needs a store with planes.*--size 1024 --out planes.zarr`"),
        ({"network": "resnet18"}, NO_PLANES, True, "network resnet18: needs a store with planes"),
        ({"weights": "start.pth"}, NO_PLANES, True, "weights: needs a store with planes"),
        ({"validate_on": ("coco", "ffhq")}, NO_PLANES, True, "validate on coco and ffhq: no effect on experts"),
        ({"device": "cuda"}, NO_PLANES, True, "device cuda: experts are fitted on the CPU"),
        ({"epochs": 5}, NO_PLANES, True, "epochs 5: no effect on experts"),
        ({"lr": 0.1}, NO_PLANES, True, "lr 0.1: no effect on experts"),
        ({"network": "none", "experts": "off"}, None, False, "network none and experts off: nothing to train"),
    ],
)
def test_settings_that_fit_no_experts_are_refused(given, features, profiles, message):
    with pytest.raises(UsageError, match=message):
        resolve_settings(TrainSettings(**given), features, profiles)


def test_command_prints_what_was_fitted(store, tmp_path):
    result = CliRunner().invoke(
        cli, ["run", "--store", str(store), "--run", str(tmp_path / "run"), "--network", "none", "--seed", "3"]
    )
    assert result.exit_code == 0, result.output
    for words in ("accuracy on sources left out", "unsure between"):
        assert words in result.output
    assert result.output.endswith(f"next: report --run {tmp_path / 'run'}\n")
    result = CliRunner().invoke(cli, ["run", "--resume", "--run", str(tmp_path / "run")])
    assert result.exit_code == 0, result.output
    assert find_newest_run(tmp_path) == tmp_path / "run"


def test_command_says_what_one_source_a_class_means_and_names_the_report_on_what_was_held_out(tmp_path):
    path = make_store(tmp_path / "features.zarr", pictures={"train": (12, 12), "val": (4, 4)})
    arguments = ["--store", str(path), "--run", str(tmp_path / "run"), "--network", "none", "--hold-out", "source-1"]
    result = CliRunner().invoke(cli, ["run", *arguments])
    assert result.exit_code == 0, result.output
    [warning] = [line for line in result.stderr.splitlines() if line.startswith("warning: ")]
    assert "each class has only one source (real: source-0, fake: source-0)" in warning
    assert warning.endswith("Every verdict of these experts is unsure")
    assert "accuracy on pictures left out" in result.stdout
    assert "only one source in training (sources that share near-duplicates count as one), so no test" in result.stdout
    assert "unsure between" not in result.stdout
    assert result.stdout.endswith("--split held-out\n")


def test_command_says_that_accuracy_is_below_guessing_if_sources_left_out_look_like_the_other_class(tmp_path):
    path, run = make_store(tmp_path / "features.zarr", signal=0), tmp_path / "run"
    root = zarr.open_group(path, mode="r+")
    brighter = (root["label"][:] == 1) != (root["source"][:] == "source-1")
    root["profiles"][:] += 3 * brighter[:, None].astype(np.float32)
    result = CliRunner().invoke(cli, ["run", "--store", str(path), "--run", str(run), "--network", "none"])
    assert result.exit_code == 0, result.output
    assert "% (below guessing: sources left out look like the other class" in result.stdout


@pytest.mark.parametrize("hold_out", [(), ("--hold-out", "source-1")], ids=["all", "held out"])
def test_command_says_that_a_report_needs_test_pictures_of_both_classes(tmp_path, hold_out):
    path = make_store(tmp_path / "features.zarr", pictures={"train": (12, 12), "val": (4, 4), "test": (4, 0)})
    if hold_out:  # of one class
        root = zarr.open_group(path, mode="r+")
        fake, second = root["label"][:] == 1, root["source"][:] == "source-1"
        root["source"][:] = np.where(fake & second, "source-0", root["source"][:]).astype(object)
    run = tmp_path / "run"
    result = CliRunner().invoke(cli, ["run", "--store", str(path), "--run", str(run), "--network", "none", *hold_out])
    assert result.exit_code == 0, result.output
    [following] = [line for line in result.stdout.splitlines() if line.startswith("next: ")]
    wanted = "next: put pictures under test/real and test/fake, build the store again, then report --run "
    assert following == f"{wanted}{run}"


def test_experts_for_a_network_alone_are_another_setting_of_a_resumed_run(store, tmp_path):
    train(TrainSettings(store=str(store), run=str(tmp_path / "run"), experts="off", **SMALL))
    with pytest.raises(UsageError, match=r"cannot be resumed with other settings: experts on \(the run has off\)"):
        resume(tmp_path / "run", {"experts": "on"})
    assert resume(tmp_path / "run", {"experts": "off"}).state == "finished"


def test_command_names_what_a_report_on_held_out_sources_of_one_class_needs(tmp_path):
    path = make_store(tmp_path / "features.zarr")
    root = zarr.open_group(path, mode="r+")
    root["source"][:] = [
        f"{source}-{'rf'[label]}" for source, label in zip(root["source"][:], root["label"][:], strict=True)
    ]
    arguments = ["--store", str(path), "--run", str(tmp_path / "run"), "--network", "none", "--hold-out", "source-1-f"]
    result = CliRunner().invoke(cli, ["run", *arguments])
    assert result.exit_code == 0, result.output
    *_, following, reason = result.stdout.splitlines()
    assert following.endswith(f"report --run {tmp_path / 'run'}")
    assert reason.startswith("all held-out sources are fake:")
    run, store = open_run(tmp_path / "run"), zarr.open_group(path)
    store["split"][:] = np.where(store["source"][:] == "source-1-f", "test", store["split"][:])
    note = "note: leaving out source-1-f changed nothing: all pictures of it are test pictures"
    assert format_next_steps(run)[0] == note


@pytest.mark.parametrize("held_out", [(), ("source-1",)], ids=["all", "held out"])
def test_command_names_the_report_on_a_store_that_has_moved_or_is_at_an_address(tmp_path, held_out):
    path, run = make_store(tmp_path / "features.zarr"), tmp_path / "run"
    train(TrainSettings(store=str(path), run=str(run), hold_out=held_out, network="none"))
    path = path.rename(tmp_path / "moved.zarr")
    options = [word for name in held_out for word in ("--hold-out", name)]
    for store, arguments in (
        (str(path), ["--resume", "--run", str(run)]),
        (path.as_uri(), ["--run", str(tmp_path / "other"), "--network", "none", *options]),
    ):
        result = CliRunner().invoke(cli, ["run", "--store", store, *arguments])
        assert result.exit_code == 0, result.output
        scored = result.stdout.splitlines()[-1].removeprefix("next: ").split()
        assert "--store" in scored
        assert CliRunner().invoke(eval_cli, [*scored, "--explain-pictures", "0"]).exit_code == 0


def test_device_of_a_run_without_a_network_is_refused(alone):
    with pytest.raises(UsageError, match="has no network, and experts run on the CPU"):
        load_detector(open_run(alone), "cuda")
