"""Selection of the kinds of planes and the rows that a run reads; samples that cannot be read."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from helpers.make_store import make_store

from data_cards.core.errors import StoreError, UserError
from eval.report.report import make_report
from eval.scores.rows import find_rows
from pipeline.store.reader import open_store
from train.cli import cli
from train.data.row_selection import choose_rows
from train.data.statistics import compute_training_statistics
from train.model.inference import compute_logits, predict_logits
from train.run.folder import load_detector, open_run
from train.settings import TrainSettings

SMALL = ["--batch-size", "8", "--device", "cpu", "--precision", "float32", "--epochs", "1", "--threads", "2",
         "--network", "small", "--experts", "off"]  # fmt: skip


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return make_store(tmp_path_factory.mktemp("choice") / "features.zarr", variants=("clean", "jpeg-1"))


def call(store: Path, run: Path, *arguments: str):
    return CliRunner().invoke(cli, ["run", "--store", str(store), "--run", str(run), *SMALL, *arguments])


def test_a_run_on_some_kinds_of_planes(path, tmp_path):
    result = call(path, tmp_path / "run", "--channels", "dct,magnitude")
    assert result.exit_code == 0, result.output
    detector = load_detector(open_run(tmp_path / "run"), "cpu").plane_detector
    assert detector.kinds == ("magnitude", "dct")
    assert detector.network.conv1.weight.shape[1] == 6
    store, rows = open_store(path), np.arange(5)
    logits = compute_logits(detector, store, rows, progress=False)
    levels = store.features[:5]
    np.testing.assert_allclose(predict_logits(detector, levels), logits, atol=1e-6)
    levels[:, 3:6] = 0  # the phase, which it does not read
    np.testing.assert_allclose(predict_logits(detector, levels), logits, atol=1e-6)
    levels[:, 6:] = 0
    assert not np.allclose(predict_logits(detector, levels), logits, atol=1e-4)


@pytest.mark.parametrize(
    ("where", "sources", "variants"),
    [
        pytest.param(("source=source-1",), {"source-1"}, {"clean", "jpeg-1"}, id="source"),
        pytest.param(("variant=jpeg-1",), {"source-0", "source-1"}, {"jpeg-1"}, id="variant"),
        pytest.param(("source=source-0", "variant=clean"), {"source-0"}, {"clean"}, id="both"),
        pytest.param(("source=source-0,source-1",), {"source-0", "source-1"}, {"clean", "jpeg-1"}, id="either"),
    ],
)
def test_select_keeps_the_chosen_rows(path, where, sources, variants):
    store = open_store(path)
    rows = choose_rows(store, TrainSettings(store=str(path), where=where, batch_size=2))
    assert set(store.columns["source"][rows.train]) == sources
    assert set(store.columns["variant"][rows.train]) == variants
    assert set(store.columns["source"][rows.val]) == sources
    assert set(store.columns["variant"][rows.val]) == variants
    pictures = store.columns["picture"][rows.val]
    assert len(set(pictures)) == len(pictures)  # one variant of each


def test_impossible_selections_are_refused(path, tmp_path):
    store = open_store(path)
    with pytest.raises(UserError, match=r"has no source lsun .--where.; it has source-0, source-1"):
        choose_rows(store, TrainSettings(where=("source=lsun",)))
    store.columns["label"][:] = 0
    with pytest.raises(
        UserError, match=r"rows, where source=source-1 and variant=clean are real; .*: change these options"
    ):
        choose_rows(store, TrainSettings(where=("source=source-1", "variant=clean")))
    for arguments in (["--where", "colour=red"], ["--where", "source="], ["--channels", "magnitude,red"]):
        result = call(path, tmp_path / "run", *arguments)
        assert result.exit_code == 2
        assert "expected" in result.stderr


def damage(path: Path, rows: range) -> None:
    """Overwrite the first chunk of some rows; the shards hold 8."""
    for row in rows:
        shard = path / "features" / "c" / str(row // 8) / "0" / "0" / "0"
        data = bytearray(shard.read_bytes())
        index = np.frombuffer(bytes(data[-4 - 16 * 24 : -4]), "<u8").reshape(8, 3, 2)
        offset, length = index[row % 8, 0].tolist()
        data[offset : offset + length] = bytes(length)
        shard.write_bytes(data)


def test_a_bad_sample_ends_the_run_or_is_skipped_and_counted(tmp_path):
    path = make_store(tmp_path / "features.zarr")
    splits = open_store(path).columns["split"]
    bad = [int(np.flatnonzero(splits == split)[1]) for split in ("train", "val")]
    damage(path, bad)
    result = call(path, tmp_path / "stopped")
    assert result.exit_code == 3
    assert f"features.zarr: row {bad[0]} (train/real/source-1/001.jpg) cannot be read" in result.stderr
    # The same run goes on without it.
    arguments = ["run", "--resume", "--run", str(tmp_path / "stopped"), "--on-bad-sample", "skip", "--json"]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["skipped"] == 2
    for row in bad:
        assert result.stderr.count(f"row {row} (") == 1


def test_a_split_that_is_all_bad_ends_the_run(tmp_path):
    path = make_store(tmp_path / "features.zarr")
    damage(path, np.flatnonzero(open_store(path).columns["split"] == "train").tolist())
    result = call(path, tmp_path / "run", "--on-bad-sample", "skip")
    assert result.exit_code == 3
    assert "none of its training samples can be read" in result.stderr


def test_a_class_that_cannot_be_validated_ends_the_run(tmp_path):
    path = make_store(tmp_path / "features.zarr")
    columns = open_store(path).columns
    damage(path, np.flatnonzero((columns["split"] == "val") & (columns["label"] == 1)).tolist())
    result = call(path, tmp_path / "run", "--on-bad-sample", "skip")
    assert result.exit_code == 3
    assert "no fake validation sample can be read" in result.stderr


def test_a_held_out_source_is_not_trained_on_and_is_scored(tmp_path):
    path = make_store(tmp_path / "features.zarr", variants=("clean", "jpeg-1"))
    result = call(path, tmp_path / "run", "--hold-out", "source-1", "--balance", "source")
    assert result.exit_code == 0, result.output
    store, run = open_store(path), open_run(tmp_path / "run")
    assert run.settings.hold_out == ("source-1",)
    rows = choose_rows(store, run.settings)
    assert set(store.columns["source"][[*rows.train, *rows.val]]) == {"source-0"}
    held_out = find_rows(run, store, "held-out")
    assert held_out.tolist() == np.flatnonzero(store.columns["source"] == "source-1").tolist()
    report = make_report(tmp_path / "run", split="held-out", device="cpu", progress=False, explain_pictures=0)
    figures = report.contents
    # The store is its own training store, yet nothing of the source counts as seen.
    assert figures["warnings"] == []
    assert {row["source"] for row in figures["rows"]} == {"source-1"}
    assert figures["shortcuts"]["training_pictures"] == len(np.unique(rows.train_pictures))


def test_a_held_out_source_takes_no_part_in_normalising(path, tmp_path):
    assert call(path, tmp_path / "run", "--hold-out", "source-1", "--normalise", "frequency").exit_code == 0
    store, run = open_store(path), open_run(tmp_path / "run")
    learned = store.features[:][choose_rows(store, run.settings).train].astype(np.float64)
    normalise = load_detector(run, "cpu").plane_detector.normalise
    np.testing.assert_allclose(normalise.mean, learned.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(normalise.std, learned.std(axis=0), rtol=1e-4, atol=1e-4)


def test_statistics_of_all_training_rows_are_those_of_the_store(path):
    store = open_store(path)
    mean, std = compute_training_statistics(store, store.rows("train"), TrainSettings())
    np.testing.assert_array_equal(mean, store.mean)
    np.testing.assert_array_equal(std, store.std)


def test_a_row_that_cannot_be_read_counts_for_no_statistics(tmp_path):
    path = make_store(tmp_path / "features.zarr")
    store = open_store(path)
    rows = store.rows("train")[1:]
    damage(path, [int(rows[3])])
    with pytest.raises(StoreError, match=f"row {rows[3]} .* cannot be read"):
        compute_training_statistics(store, rows, TrainSettings())
    mean, _ = compute_training_statistics(store, rows, TrainSettings(on_bad_sample="skip"))
    kept = np.delete(rows, 3)
    np.testing.assert_allclose(mean, np.stack([store.features[int(row)] for row in kept]).mean(axis=0), rtol=1e-6)


def test_sources_that_cannot_be_held_out(path, tmp_path):
    result = call(path, tmp_path / "none", "--hold-out", "lsun")
    assert result.exit_code == 1
    assert "has no source lsun (--hold-out); it has source-0, source-1" in result.stderr
    result = call(path, tmp_path / "none", "--hold-out", "sorce-1")
    assert "has no source sorce-1 (--hold-out); did you mean source-1 or source-0?" in result.stderr
    result = call(path, tmp_path / "all", "--hold-out", "source-0", "--hold-out", "source-1")
    assert result.exit_code == 1
    assert "without source-0 and source-1" in result.stderr
    assert call(path, tmp_path / "run").exit_code == 0
    with pytest.raises(UserError, match="left no source out"):
        find_rows(open_run(tmp_path / "run"), open_store(path), "held-out")


def test_validating_on_a_source_that_is_not_trained_on(tmp_path):
    store = open_store(make_store(tmp_path / "features.zarr", variants=("clean", "jpeg-1")))
    columns = store.columns
    twin = int(np.flatnonzero((columns["split"] == "train") & (columns["source"] == "source-0"))[0])
    of_source = columns["source"] == "source-1"
    columns["group"][twin] = columns["group"][np.flatnonzero(of_source & (columns["split"] == "train"))[0]]
    rows = choose_rows(store, TrainSettings(validate_on=("source-1",), batch_size=2))
    learned = (columns["split"] == "train") & ~of_source
    assert rows.train.tolist() == [row for row in np.flatnonzero(learned) if row != twin]  # nor a near-duplicate
    known = (columns["split"] != "test") & of_source
    assert known[rows.val].all()
    assert sorted(columns["picture"][rows.val]) == sorted(set(columns["picture"][known]))
    settings = TrainSettings(validate_on=("source-1",), batch_size=2, variants_per_epoch="all")
    assert choose_rows(store, settings).val.tolist() == np.flatnonzero(known).tolist()


def test_sources_that_cannot_be_validated_on(path, tmp_path):
    result = call(path, tmp_path / "run", "--validate-on", "lsun")
    assert result.exit_code == 1
    assert "has no source lsun (--validate-on); it has source-0, source-1" in result.stderr
    result = call(path, tmp_path / "run", "--validate-on", "source-0", "--hold-out", "source-0")
    assert result.exit_code == 2
    assert "source-0: in both --hold-out and --validate-on" in result.stderr
