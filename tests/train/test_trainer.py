"""`train`: what a run learns, writes, and gives back when opened."""

import csv
import json
import shutil
import subprocess
import sys
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.make_run import make_run
from helpers.make_store import make_store
from safetensors.torch import load_file, save
from torch.nn.modules.module import register_module_forward_pre_hook

from data_cards.core.errors import UsageError, UserError
from data_cards.core.files import whole_file
from data_cards.core.labels import CLASS_NAMES
from pipeline.store.reader import open_store
from train.data.row_selection import choose_rows, compute_source_ids
from train.loop import trainer as loop
from train.loop import validation as train_validation
from train.loop.failures import translating_out_of_memory
from train.loop.trainer import resume, train
from train.model.calibration import fit_calibration, probability_fake
from train.model.inference import compute_logits
from train.model.normaliser import Normaliser
from train.resolve import resolve_settings
from train.run.best_epoch import read_best_epoch
from train.run.environment import find_commit
from train.run.folder import RUN_VERSION, find_newest_run, load_detector, open_run
from train.run.history import HISTORY_COLUMNS
from train.settings import TrainSettings

SMALL = {"batch_size": 8, "device": "cpu", "precision": "float32", "threads": 2, "network": "small", "experts": "off"}
EPOCHS = 8


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    return make_store(tmp_path_factory.mktemp("store") / "features.zarr", variants=("clean", "jpeg-1"))


@pytest.fixture(scope="module")
def run(tmp_path_factory, store):
    path = tmp_path_factory.mktemp("run") / "one"
    train(TrainSettings(store=str(store), run=str(path), epochs=EPOCHS, **SMALL))
    return open_run(path)


def test_train_raises_accuracy_and_lowers_the_loss(run):
    assert run.history[-1]["val_accuracy"] > 0.9
    assert run.history[-1]["train_loss"] < run.history[0]["train_loss"]


def test_train_writes_every_file_of_a_run(run):
    assert {path.name for path in run.path.iterdir()} - {"events"} == {
        "best.json", "best.safetensors", "curves.png", "data_card.json", "history.csv", "last.safetensors",
        "settings.json", "state.pt", "summary.json",
    }  # fmt: skip
    assert (run.path / "curves.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_settings_and_store_are_recorded(run, store):
    opened = open_store(store)
    asked = TrainSettings(store=str(store), run=str(run.path), epochs=EPOCHS, **SMALL)
    assert run.settings == resolve_settings(asked, opened.settings.features)
    assert run.build_settings == opened.settings
    assert run.store_fingerprint == opened.fingerprint
    assert run.store_paths == (str(store.resolve()),)
    assert run.class_names == ("real", "fake")
    record = json.loads((run.path / "settings.json").read_text())
    assert record["versions"]["torch"] == torch.__version__
    assert set(record["versions"]) >= {"program", "python", "platform", "numpy", "zarr"}
    assert record["git"] == find_commit(Path())


def test_history_has_a_row_for_every_epoch(run):
    with open(run.path / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == HISTORY_COLUMNS
    assert [row["epoch"] for row in rows] == [str(number) for number in range(1, EPOCHS + 1)]
    assert run.history[2]["val_loss"] == float(rows[2]["val_loss"])


@pytest.mark.parametrize("which", ["best", "last"])
def test_the_saved_detector_scores_as_the_history_says(run, store, which):
    opened = open_store(store)
    rows = choose_rows(opened, run.settings).val
    detector = load_detector(run, "cpu", which).plane_detector
    assert not detector.training
    logits = compute_logits(detector, opened, rows, batch_size=5, progress=False)
    labels = opened.columns["label"][rows]
    fake = probability_fake(logits)
    loss = -np.log(np.where(labels == 1, fake, 1 - fake)).mean()
    row = run.history[-1] if which == "last" else min(run.history, key=lambda row: row["val_loss"])
    assert loss == pytest.approx(row["val_loss"], rel=1e-4)
    assert ((fake > 0.5) == labels).mean() == pytest.approx(row["val_accuracy"])
    np.testing.assert_allclose(compute_logits(detector, opened, rows, progress=True), logits, atol=1e-5)


def test_calibration_is_that_of_the_validation_rows(run, store):
    opened = open_store(store)
    chosen = choose_rows(opened, run.settings)
    assert sorted(opened.columns["picture"][chosen.val]) == sorted(set(opened.columns["picture"][chosen.calibration]))
    assert len(chosen.calibration) == len(opened.rows("val")) > len(chosen.val)
    best, sources = read_best_epoch(run.path), compute_source_ids(opened)
    for which, rows in (("last", chosen.val), ("best", chosen.calibration)):
        detector, labels = load_detector(run, "cpu", which).plane_detector, opened.columns["label"][rows]
        logits = compute_logits(detector, opened, rows, progress=False)
        pictures = opened.columns["picture"][rows]
        wanted = astuple(fit_calibration(logits, labels, sources[rows], pictures))
        if which == "best" or best.epoch < EPOCHS:
            np.testing.assert_allclose(astuple(detector.calibration), wanted, rtol=1e-3)
    assert best.calibration == load_detector(run, "cpu").calibration
    assert best.epoch == 1 + int(np.argmin([row["val_loss"] for row in run.history]))
    logits = compute_logits(load_detector(run, "cpu").plane_detector, opened, rows, 32, False)
    probabilities = best.calibration.probability(logits)
    for label, true in enumerate(CLASS_NAMES):
        fake = int((probabilities[labels == label] >= best.calibration.threshold).sum())
        assert best.confusion[true] == {"real": int((labels == label).sum()) - fake, "fake": fake}


def test_statistics_in_the_weights_are_the_stores(run, store):
    state = load_file(run.path / "best.safetensors")
    np.testing.assert_array_equal(state["normalise.mean"].numpy(), open_store(store).mean)


def test_train_twice_gives_the_same_weights(store, tmp_path):
    weights = {}
    for name, seed, threads in (("one", 0, 1), ("again", 0, 5), ("seed", 1, 1)):
        settings = {**SMALL, "run": str(tmp_path / name), "seed": seed, "threads": threads}
        train(TrainSettings(store=str(store), epochs=1, **settings))
        weights[name] = (tmp_path / name / "last.safetensors").read_bytes()
    assert weights["again"] == weights["one"]
    assert weights["seed"] != weights["one"]


def test_every_picture_is_trained_on_once_an_epoch(store, tmp_path):
    seen, fed = [], []
    opened = open_store(store)
    pictures, training_rows, features = opened.columns["picture"], opened.rows("train"), opened.features[:]

    def note_levels(module, given):
        if isinstance(module, Normaliser) and module.training:
            fed.append(given[0].numpy().copy())

    def note_rows(record):
        if not seen:
            del fed[:-1]  # of the trial steps
        seen.append(record.rows)
        np.testing.assert_array_equal(fed.pop(), features[record.rows])

    with register_module_forward_pre_hook(note_levels):
        train(TrainSettings(store=str(store), run=str(tmp_path / "one"), epochs=1, **SMALL), note_rows)
    assert len(seen) == 3
    assert not fed
    assert sorted(pictures[np.concatenate(seen)]) == sorted(set(pictures[training_rows]))
    seen.clear()
    settings = {**SMALL, "batch_size": 24}
    settings = TrainSettings(
        store=str(store), run=str(tmp_path / "all"), epochs=1, variants_per_epoch="all", **settings
    )
    train(settings, lambda record: seen.append(record.rows))
    assert sorted(np.concatenate(seen)) == training_rows.tolist()


def test_early_stopping_keeps_the_best(tmp_path):
    store = make_store(tmp_path / "noise.zarr", signal=0)  # nothing to learn but the pictures themselves
    summary = train(TrainSettings(store=str(store), run=str(tmp_path / "run"), epochs=30, patience=2, **SMALL))
    history = open_run(tmp_path / "run").history
    assert len(history) < 30
    losses = [row["val_loss"] for row in history]
    assert summary.best_epoch == 1 + int(np.argmin(losses)) == len(losses) - 2
    assert summary.val_loss == min(losses)
    assert summary.ended == "validation loss no better for 2 epochs"
    best, last = (load_file(tmp_path / "run" / f"{name}.safetensors") for name in ("best", "last"))
    assert not torch.equal(best["network.conv1.weight"], last["network.conv1.weight"])


def test_train_in_bf16_keeps_float32_weights(store, tmp_path):
    settings = {**SMALL, "precision": "bf16"}
    summary = train(TrainSettings(store=str(store), run=str(tmp_path / "run"), epochs=1, **settings))
    assert summary.precision == "bf16"
    weights = load_file(tmp_path / "run" / "last.safetensors")
    assert weights["network.conv1.weight"].dtype == torch.float32


def test_a_loss_that_is_not_finite_ends_the_run(store, tmp_path):
    message = (
        r"the loss became (nan|inf) in epoch \d, step \d on row \d+ \(train/\w+/source-\d/\d+\.jpg\), .*lower --lr"
    )
    with pytest.raises(UserError, match=message):
        train(TrainSettings(store=str(store), run=str(tmp_path / "run"), epochs=3, lr=1e30, **SMALL))


def test_a_bad_loss_names_the_pictures_of_its_step(store, tmp_path):
    def spoil(record):
        for value in record.detector.network.parameters():
            value.data.fill_(float("nan"))

    settings, seen = TrainSettings(store=str(store), run=str(tmp_path / "whole"), epochs=1, **SMALL), []
    train(settings, lambda record: seen.append(record.rows))
    with pytest.raises(UserError, match="the loss became nan in epoch 1, step 2 on row ") as caught:
        train(replace(settings, run=str(tmp_path / "run")), spoil)
    images = open_store(store).columns["image"]
    for row in seen[1]:
        assert f"row {row} ({images[row]})" in str(caught.value)
    assert str(caught.value).count("row ") == len(seen[1])
    assert "--precision" not in str(caught.value)  # it is float32 already


@pytest.mark.parametrize("validation", [1, 2], ids=["of the epoch", "of all variants at the end"])
def test_a_bad_loss_of_a_validation_names_its_pictures(store, tmp_path, monkeypatch, validation):
    iterate_logits, calls = train_validation.iterate_logits, []

    def spoil(*arguments):
        calls.append(arguments)
        for logits in iterate_logits(*arguments):
            if len(calls) == validation:
                logits[3] = float("nan")
            yield logits

    monkeypatch.setattr(train_validation, "iterate_logits", spoil)
    settings = {**SMALL, "precision": "bf16", "batch_size": 24}
    with pytest.raises(UserError, match=r"became nan in epoch 1, validation on row .* or with --precision") as caught:
        train(TrainSettings(store=str(store), run=str(tmp_path / "run"), epochs=1, **settings))
    assert str(caught.value).count("row ") == 1
    assert "(val/" in str(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] data. DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        MemoryError(),
    ],
)
def test_out_of_memory_error_names_what_to_lower(store, tmp_path, error):
    def fail(_):
        raise error

    settings = {**SMALL, "network": "resnet18"}
    with pytest.raises(UserError, match=r"out of memory on cpu; start a new run with a lower") as caught:
        train(TrainSettings(store=str(store), run=str(tmp_path / "run"), **settings), fail)
    for text in (
        "--batch-size (it was 8)",
        "--channels (it was magnitude,phase,dct)",
        "--network (it was resnet18)",
    ):
        assert text in str(caught.value)


def test_out_of_memory_before_the_first_step_names_what_to_lower(store, tmp_path, monkeypatch):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(loop, "compute_training_statistics", fail)
    settings = {**SMALL, "network": "radial"}
    with pytest.raises(UserError, match=r"features.zarr: out of memory on cpu; .*--channels") as caught:
        train(TrainSettings(store=str(store), run=str(tmp_path / "run"), **settings))
    assert "--network" not in str(caught.value)  # there is no smaller one
    assert not (tmp_path / "run").exists()


def test_other_runtime_errors_pass_unchanged(store, tmp_path):
    def fail(_):
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        train(TrainSettings(store=str(store), run=str(tmp_path / "run"), **SMALL), fail)


def test_out_of_memory_on_a_gpu_names_bf16(tmp_path):
    for precision, told in ((torch.float32, True), (torch.bfloat16, False)):
        with (
            pytest.raises(UserError, match="out of memory on cuda") as caught,
            translating_out_of_memory(tmp_path, TrainSettings(), torch.device("cuda"), precision),
        ):
            raise torch.OutOfMemoryError("CUDA out of memory")
        assert ("--precision bf16" in str(caught.value)) == told


def test_run_with_removed_options_is_scored_but_not_resumed(run, store, tmp_path):
    off = {"shuffle_window": 0, "ema": 0.0, "band_masking": 0.0, "kind_dropout": 0.0, "flips": 0.0, "phase": "raw"}

    def change(**values):
        copied = copy_run(run, tmp_path / "-".join(["run", *values]))
        record = json.loads((copied / "settings.json").read_text())
        record["train"] |= off | values
        (copied / "settings.json").write_text(json.dumps(record))
        return copied

    plain = open_run(change())
    assert plain.settings == run.settings
    assert plain.removed == {}
    averaged = change(ema=0.9, flips=0.5)
    load_detector(open_run(averaged), "cpu")
    with pytest.raises(UserError, match=r"an option that was removed \(ema 0\.9, flips 0\.5\); start a new run"):
        resume(averaged)
    with pytest.raises(UserError, match="trained with phase cos-sin, an option that was removed; train it again"):
        open_run(change(phase="cos-sin"))


def test_weights_file_is_the_start(store, tmp_path):
    from safetensors.torch import save_file

    from train.model.network import ResNet

    torch.manual_seed(5)
    weights = ResNet("resnet18", channels=3, classes=1000).state_dict()
    save_file(weights, tmp_path / "imagenet.safetensors")
    settings = {**SMALL, "network": "resnet18", "weights": str(tmp_path / "imagenet.safetensors")}
    train(TrainSettings(store=str(store), run=str(tmp_path / "run"), epochs=1, lr=1e-12, **settings))
    trained = load_file(tmp_path / "run" / "last.safetensors")["network.layer3.1.conv2.weight"]
    torch.testing.assert_close(trained, weights["layer3.1.conv2.weight"], rtol=0, atol=1e-6)


# --- opening


def test_newest_run_is_the_last_begun(run, tmp_path, monkeypatch):
    folder = tmp_path / "runs"
    for name, created in (("b", "2024-01-01T00:00:00.000000+00:00"), ("a", "2025-01-01T00:00:00.000000+00:00")):
        copy = folder / name
        copy.mkdir(parents=True)
        record = json.loads((run.path / "settings.json").read_text())
        (copy / "settings.json").write_text(json.dumps({**record, "created": created}))
    (folder / "damaged").mkdir()
    (folder / "damaged" / "settings.json").write_text("{")
    with pytest.raises(UserError, match=r"no run in it has finished an epoch yet.*train run --resume --run .*/a`"):
        find_newest_run(folder)
    assert find_newest_run(folder, usable=False) == folder / "a"
    (folder / "b" / "best.safetensors").write_bytes(b"")
    assert find_newest_run(folder) == folder / "b"
    (folder / "a" / "best.safetensors").write_bytes(b"")
    assert find_newest_run(folder) == folder / "a"
    monkeypatch.chdir(tmp_path)
    assert find_newest_run() == Path("runs/a")


def test_newest_run_without_runs_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(UserError, match="no training run in it; make one with `train run`"):
            find_newest_run(folder)


def test_a_run_of_an_older_version_is_named(tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "settings.json").write_text('{"run_version": 1}')
    with pytest.raises(UserError, match=r"old: a run of version 1; expected .*; train it again"):
        find_newest_run(tmp_path)


def copy_run(run, to: Path) -> Path:
    to.mkdir()
    for name in ("settings.json", "history.csv", "best.safetensors"):
        (to / name).write_bytes((run.path / name).read_bytes())
    return to


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(lambda path: (path / "settings.json").unlink(), "not a run folder", id="no settings"),
        pytest.param(lambda path: (path / "settings.json").write_text("{"), "damaged", id="settings cut"),
        pytest.param(lambda path: (path / "settings.json").write_text("[]"), "damaged", id="settings a list"),
        pytest.param(lambda path: (path / "history.csv").write_text("epoch\nx\n"), "damaged", id="history"),
        pytest.param(lambda path: (path / "best.safetensors").unlink(), "no finished epoch", id="no weights"),
        pytest.param(
            lambda path: (path / "settings.json").write_text(
                (path / "settings.json").read_text().replace(f'"run_version": {RUN_VERSION}', '"run_version": 99')
            ),
            "a run of version 99",
            id="version",
        ),
    ],
)
def test_open_run_of_damaged_runs_is_refused(run, tmp_path, damage, message):
    path = copy_run(run, tmp_path / "copy")
    damage(path)
    with pytest.raises(UserError, match=message) as caught:
        open_run(path)
    assert str(path) in str(caught.value)


def test_open_run_of_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match="no such run folder; runs are made with `train run`"):
        open_run(tmp_path / "absent")


def test_load_detector_of_other_weights_is_refused(run, tmp_path):
    copied = open_run(copy_run(run, tmp_path / "copy"))
    with pytest.raises(UserError, match=r"last\.safetensors: no such file"):
        load_detector(copied, "cpu", "last")
    with pytest.raises(UsageError, match="expected best or last"):
        load_detector(copied, "cpu", "worst")
    whole = (run.path / "best.safetensors").read_bytes()
    flipped = bytearray(whole)
    flipped[-len(whole) // 3] ^= 1
    for damaged in (whole[: len(whole) // 2], flipped):
        (copied.path / "best.safetensors").write_bytes(damaged)
        with pytest.raises(UserError, match=r"best\.safetensors: not the weights of this run, or damaged"):
            load_detector(copied, "cpu")


def test_run_simulated_reads_its_card_and_else_its_store(tmp_path):
    path = make_run(tmp_path / "run", make_store(tmp_path / "features.zarr"))
    card = path / "data_card.json"
    card.write_text(json.dumps({"simulated": True}))
    shutil.rmtree(tmp_path / "features.zarr")
    assert open_run(path).simulated
    card.unlink()
    assert not open_run(path).simulated  # nothing is left that says so


def test_weights_without_a_digest_are_refused(run, tmp_path):
    copied = open_run(copy_run(run, tmp_path / "copy"))
    (copied.path / "best.safetensors").write_bytes(save(load_file(run.path / "best.safetensors")))
    with pytest.raises(UserError, match=r"best\.safetensors: not the weights of this run, or damaged"):
        load_detector(copied, "cpu")


def test_train_in_a_removed_folder_names_it(store, tmp_path):
    def remove(_):
        shutil.rmtree(tmp_path / "run")

    with pytest.raises(UserError, match=r"run: cannot be written \(no such file.*run the same command again"):
        train(TrainSettings(store=str(store), run=str(tmp_path / "run"), save_minutes=0, **SMALL), remove)


def test_run_files_are_whole_or_absent(tmp_path):
    path = tmp_path / "file"
    path.write_text("before")

    def write_and_fail():
        with whole_file(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_and_fail()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_training_imports_no_transform():
    code = (
        "import sys, train.cli, train.loop.trainer; transforms = {'scipy.fft', 'scipy.fftpack', "
        "'pipeline.features.periodogram', 'pipeline.features.welch', 'pipeline.features.extract'}; "
        "print(sorted(transforms & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert done.stdout.strip() == "[]"
