"""The report: its figures recomputed from the rows, its words, and its page."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import zarr
from helpers.hostile import edit_json
from helpers.make_run import make_experts_run, make_run
from helpers.make_store import make_store
from helpers.sklearn_scores import score_with_sklearn
from sklearn import metrics as sk

from data_cards.audit.file_baseline import ALL
from data_cards.core.errors import UsageError, UserError
from data_cards.dataset.simulated import SIMULATION_NOTICE
from eval.report.report import make_report
from eval.report.summary import _format_small_number, summarise
from eval.scores.metrics import METRICS
from pipeline.store.reader import open_store
from train.recipe.experts import format_few_sources
from train.run.reported_score import read_reported_score

QUIET = {"device": "cpu", "progress": False, "explain_pictures": 0}  # that takes longest, and has its own test


def report_on(folder, *, store_changes=None, attributes=None, settings=None, **options):
    """The report of an untrained run on a small store, whose columns may be changed first."""
    store = make_store(folder / "features.zarr", **options)
    change_store(store, store_changes, attributes)
    return make_report(make_run(folder / "run", store), **(QUIET | (settings or {})))


def change_store(store, columns=None, attributes=None) -> None:
    group = zarr.open_group(store, mode="r+")
    for name, change in (columns or {}).items():
        # As a build writes them: a chunk of zeros alone is there too.
        group[name].with_config({"write_empty_chunks": True})[:] = change(group[name][:])
    group.attrs.update(attributes or {})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A store of three variants with a run and its report."""
    folder = tmp_path_factory.mktemp("report")
    report_on(
        folder,
        variants=("clean", "jpeg-1", "jpeg-2"),
        pictures={"train": (12, 12), "test": (9, 7)},
        settings={"explain_pictures": 4},
    )
    return folder


@pytest.fixture(scope="module")
def figures(folder) -> dict:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} in report.json")

    return json.loads((folder / "run" / "report.json").read_text(encoding="utf-8"), parse_constant=refuse)


@pytest.fixture(scope="module")
def page(folder) -> str:
    return (folder / "run" / "report.html").read_text(encoding="utf-8")


def labels_and_scores(rows: list[dict]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([row["label"] == "fake" for row in rows]), np.array([row["probability_fake"] for row in rows])


# --- figures


def test_scores_can_be_recomputed_from_the_rows(figures):
    rows = {"clean": [row for row in figures["rows"] if row["variant"] == "clean"], "all": figures["rows"]}
    assert list(figures["scopes"]) == list(rows)
    assert (len(rows["clean"]), len(rows["all"])) == (16, 48)
    for scope, part in figures["scopes"].items():
        labels, scores = labels_and_scores(rows[scope])
        expected = score_with_sklearn(labels, scores)
        assert {name: one["value"] for name, one in part["scores"].items()} == pytest.approx(expected, abs=1e-9)
        matrix = sk.confusion_matrix(labels, scores >= figures["threshold"]["value"])
        assert list(part["confusion"].values()) == matrix.ravel().tolist()
        assert part["samples"] == len(rows[scope])
        assert part["pictures"] == 16


def test_every_score_has_an_interval_around_it_or_a_reason(figures):
    estimates = [one for part in figures["scopes"].values() for one in part["scores"].values()]
    estimates += [one for sources in figures["sources"].values() for one in (s["accuracy"] for s in sources)]
    estimates += [one for band in figures["quality_bands"] for one in band["scores"].values()]
    assert len(estimates) > 30
    for one in estimates:
        if one["value"] is None or one["low"] is None:
            assert one["reason"]
        else:
            assert one["low"] <= one["value"] <= one["high"]


def test_rows_name_their_pictures(figures, folder):
    columns = open_store(folder / "features.zarr").columns
    test = np.flatnonzero(columns["split"] == "test")
    assert [row["sha256"] for row in figures["rows"]] == columns["sha256"][test].tolist()
    assert [row["variant"] for row in figures["rows"]] == columns["variant"][test].tolist()
    assert {row["quality"] for row in figures["rows"] if row["variant"] == "clean"} == {90}
    assert {row["quality"] for row in figures["rows"] if row["variant"] != "clean"} == {75}


def test_sources_and_bands_are_parts_of_the_whole(figures):
    rows = [row for row in figures["rows"] if row["variant"] == "clean"]
    for source in figures["sources"]["clean"]:
        own = [row for row in rows if (row["label"], row["source"]) == (source["class"], source["source"])]
        others = [row for row in rows if row["label"] != source["class"]]
        assert source["pictures"] == len(own)
        wrong = np.mean([(row["probability_fake"] >= 0.5) != (row["label"] == "fake") for row in own])
        assert source["accuracy"]["value"] == pytest.approx(1 - wrong)
        auroc = sk.roc_auc_score(*labels_and_scores(own + others))
        assert source["auroc_against_other_class"]["value"] == pytest.approx(auroc)
    assert {(one["class"], one["source"]) for one in figures["sources"]["clean"]} == {
        (label, f"source-{number}") for label in ("real", "fake") for number in (0, 1)
    }
    assert [(one["quality"], one["samples"]) for one in figures["quality_bands"]] == [
        ("70 to 84", 32),
        ("85 to 94", 16),
    ]
    for band, quality in zip(figures["quality_bands"], (75, 90), strict=True):
        expected = score_with_sklearn(*labels_and_scores([r for r in figures["rows"] if r["quality"] == quality]))
        assert {name: one["value"] for name, one in band["scores"].items()} == pytest.approx(expected, abs=1e-9)


def test_report_twice_has_equal_contents(folder, figures, page, tmp_path):
    settings = QUIET | {"explain_pictures": 4, "batch_size": 32}
    again = make_report(folder / "run", out=tmp_path / "new" / "folder", **settings)
    assert json.loads(again.json.read_text(encoding="utf-8")) == figures
    assert again.html.read_text(encoding="utf-8") == page
    assert sorted(path.name for path in again.json.parent.iterdir()) == ["report.html", "report.json"]


def test_report_of_a_simulated_store_has_the_notice(tmp_path):
    report = report_on(tmp_path, attributes={"simulated": True})
    assert report.contents["simulated"] is True
    assert report.contents["notice"] == SIMULATION_NOTICE
    assert SIMULATION_NOTICE in report.html.read_text(encoding="utf-8")


def test_report_of_a_real_store_has_no_notice(figures, page):
    assert figures["simulated"] is False
    assert figures["notice"] is None
    assert "simulation" not in page


@pytest.mark.parametrize(
    ("options", "scopes"),
    [
        pytest.param({"pictures": {"train": (4, 4), "test": (3, 2)}}, ["clean"], id="five pictures"),
        pytest.param({"pictures": {"train": (4, 4), "test": (1, 1)}}, ["clean"], id="one of each class"),
        pytest.param({"variants": ("jpeg-1", "jpeg-2")}, ["all"], id="no picture as it is"),
        pytest.param(
            {"store_changes": {name: lambda old: np.full_like(old, -1) for name in ("file_quality", "jpeg_quality")}},
            ["clean"],
            id="no JPEG",
        ),
        pytest.param({"store_changes": {"source": lambda old: np.full_like(old, "one")}}, ["clean"], id="one source"),
        pytest.param({"store_changes": {"group": lambda old: np.zeros_like(old)}}, ["clean"], id="one group"),
        pytest.param({"pictures": {"test": (4, 4)}}, ["clean"], id="no training pictures"),
        pytest.param({"pictures": {"train": (0, 5), "test": (4, 4)}}, ["clean"], id="one class in training"),
        pytest.param({"attributes": {"roots": ["/nowhere"]}}, ["clean"], id="pictures gone"),
    ],
)
def test_report_of_unusual_stores_has_the_expected_scopes(tmp_path, options, scopes):
    report = report_on(tmp_path, **options)
    assert list(report.contents["scopes"]) == scopes
    assert report.contents["summary"]
    assert all("None" not in sentence and "nan" not in sentence for sentence in report.contents["summary"])
    assert "</html>" in report.html.read_text(encoding="utf-8")
    json.loads(report.json.read_text(encoding="utf-8"))


# --- which run, which store


def test_report_on_a_changed_store_warns(tmp_path):
    run = make_run(tmp_path / "run", make_store(tmp_path / "features.zarr"))
    assert make_report(run, **QUIET).contents["warnings"] == []
    change_store(tmp_path / "features.zarr", attributes={"fingerprint": "f" * 64})
    report = make_report(run, **QUIET)
    assert "replaced by one with other pictures, splits or versions" in report.contents["warnings"][0]
    assert "was not found, or has changed" in report.contents["shortcuts"]["reason"]


def test_report_on_another_store_finds_training_pictures(tmp_path):
    run = make_run(tmp_path / "run", make_store(tmp_path / "features.zarr"))
    other = make_store(tmp_path / "other.zarr", seed=1, pictures={"test": (3, 3)})
    hashes = open_store(tmp_path / "features.zarr").columns["sha256"]
    change_store(other, {"sha256": lambda old: np.append(hashes[:2], old[2:])})
    report = make_report(run, other, **QUIET)
    assert any("6 pictures were in the run's training" in text for text in report.contents["warnings"])
    assert report.contents["shortcuts"]["training_pictures"] == 24
    # A store of other pictures, and the run's own still exists: nothing to warn of.
    others = make_store(tmp_path / "others.zarr", seed=1, pictures={"test": (3, 3)}, first=1000)
    assert make_report(run, others, **QUIET).contents["warnings"] == []


def test_report_on_other_pictures_replaces_none(tmp_path):
    run = make_run(tmp_path / "run", make_store(tmp_path / "features.zarr"))
    options = QUIET | {"swap_pictures": 0}
    made = [make_report(run, **options)]
    assert make_report(run, tmp_path / "features.zarr", **options).html == made[0].html
    made.append(make_report(run, split="val", **options))
    for folder in ("a", "b"):  # other stores, of the same name
        (tmp_path / folder).mkdir()
        other = make_store(tmp_path / folder / "features.zarr", seed=1, pictures={"test": (3, 3)}, first=1000)
        made.append(make_report(run, other, **options))
    made.append(make_report(run, tmp_path / "a" / "features.zarr", **options))
    names = ["report", "report-val", "report-on-features", "report-on-features-2", "report-on-features"]
    assert [one.html.name for one in made] == [f"{name}.html" for name in names]
    assert [one.json.name for one in made] == [f"{name}.json" for name in names]
    assert json.loads(made[0].json.read_text())["store"]["path"] == str(tmp_path / "features.zarr")
    assert read_reported_score(run).auroc == made[0].contents["scopes"]["clean"]["scores"]["auroc"]["value"]


def test_run_without_test_pictures_is_listed_with_the_score_on_another_store(tmp_path):
    run = make_run(tmp_path / "run", make_store(tmp_path / "features.zarr", pictures={"train": (4, 4)}))
    other = make_store(tmp_path / "other.zarr", seed=1, pictures={"test": (3, 3)}, first=1000)
    make_report(run, other, **QUIET)
    assert (run / "test_score.json").is_file()


def test_report_on_train_or_val_split_warns(tmp_path):
    run = make_run(tmp_path / "run", make_store(tmp_path / "features.zarr"))
    assert "best epoch and the threshold were chosen" in make_report(run, split="val", **QUIET).contents["warnings"][0]
    assert "trained on" in make_report(run, split="train", **QUIET).contents["warnings"][0]


def test_report_of_unusable_arguments_is_refused(tmp_path):
    store = make_store(tmp_path / "features.zarr")
    run = make_run(tmp_path / "run", store)

    def refuse(words: str, *arguments, kind=UserError, **options) -> None:
        with pytest.raises(kind, match=words):
            make_report(*arguments, **options, **QUIET)
        assert not list(tmp_path.rglob("report*"))

    other = make_store(tmp_path / "small.zarr", size=16)
    refuse(r"small.zarr: built with size 16 instead of 32, so .*run cannot score it", run, other)
    one_class = make_store(tmp_path / "one.zarr", pictures={"train": (3, 3), "test": (4, 0)})
    refuse(r"one.zarr: its test split is all real.*test/fake", run, one_class)
    no_test = make_store(tmp_path / "no_test.zarr", pictures={"train": (3, 3), "val": (2, 2)})
    refuse(r"no_test.zarr: has no test split.*test/real and test/fake.*--split val", run, no_test)
    (tmp_path / "file").touch()
    refuse("file: is a file", run, out=tmp_path / "file", kind=UsageError)
    refuse("is a file", run, out=tmp_path / "file" / "below", kind=UsageError)
    refuse("batch size 0", run, batch_size=0, kind=UsageError)
    store.rename(tmp_path / "moved.zarr")
    refuse(r"run: its store .*features.zarr was not found.*--store", run)
    assert make_report(run, tmp_path / "moved.zarr", **QUIET).contents["warnings"] == []


# --- words


def estimate(value: float, low: float | None, high: float | None) -> dict:
    return {"value": value, "low": low, "high": high}


def words(auroc: dict, alone: dict, lead: dict, pictures: int = 100, properties: str = ALL, **parts) -> str:
    scores = {
        "auroc": auroc,
        "false_positive_rate": estimate(0.07, 0.03, 0.12),
        "false_negative_rate": estimate(0.12, 0.05, 0.2),
    }
    return " ".join(
        summarise(
            {
                "headline": "clean",
                "split": "test",
                "conditions": [],
                "swap": {"reason": "none"},
                "sources": {"clean": []},
                "abstention": {"unsure": estimate(0, 0, 0), "mistakes_when_judged": estimate(0, 0, 0)},
                "training_sources": {"real": 3, "fake": 3},
                "deciding": {"reason": "none"},
                "experts": {"reason": "none"},
                **parts,
                "scopes": {"clean": {"scores": scores, "samples_by_class": {"real": pictures, "fake": 100}}},
                "shortcuts": {"strongest": {"properties": properties, "auroc": alone}, "lead": lead},
            }
        )
    )


def test_the_summary_counts_in_hundreds():
    text = words(estimate(0.9, 0.85, 0.95), estimate(0.6, 0.5, 0.7), estimate(0.3, 0.2, 0.4))
    assert text.startswith(
        "The detector calls 7 (95% interval 3 to 12) of 100 photographs generated, "
        "and misses 12 (95% interval 5 to 20) of 100 generated pictures."
    )
    assert "in 90 (95% interval 85 to 95) of 100 such pairs" in text
    assert "The detector is clearly better than that." in text
    assert "not clearly" not in text
    assert "Caution" not in text
    assert "one class has only 29 test pictures." in words(
        estimate(0.9, 0.8, 1), estimate(0.6, 0.5, 0.7), estimate(0.3, 0.2, 0.4), pictures=29
    )
    for split, kind in (("val", "validation"), ("held-out", "held-out"), ("train", "training")):
        assert f"one class has only 29 {kind} pictures." in good_words(pictures=29, split=split)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"real": 30, "fake": 30}, None),
        ({"real": 10, "fake": 10}, "each class has only 10 test pictures."),
        ({"real": 12, "fake": 10}, "one class has only 10 test pictures, and the other 12."),
        ({"real": 1, "fake": 40}, "one class has only 1 test picture."),
    ],
)
def test_summary_cautions_against_few_pictures_of_one_class_or_each(counts, expected):
    assert _format_small_number(counts, "test picture") == (f"Caution: {expected}" if expected else "")


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"real": 15, "fake": 20}, None),
        ({"real": 1, "fake": 4}, None),
        ({"real": 9, "fake": 9}, "only 9 sources in each class"),
        ({"real": 9, "fake": 15}, "only 9 sources of real pictures"),
        ({"real": 9, "fake": 4}, "only 9 sources of real pictures and 4 sources of fake pictures"),
    ],
)
def test_few_sources_are_those_of_each_class(counts, expected):
    assert format_few_sources(counts) == expected


@pytest.mark.parametrize(
    ("auroc", "lead", "expected"),
    [
        pytest.param((0.55, 0.45, 0.65), (0.1, -0.1, 0.2), "not clearly better than guessing", id="chance"),
        pytest.param((0.3, 0.2, 0.4), (-0.3, -0.4, -0.2), "clearly worse than guessing", id="misled"),
        pytest.param((0.8, 0.7, 0.9), (0.05, -0.05, 0.1), "does not show that it uses", id="as the shortcuts"),
        pytest.param(
            (0.8, 0.7, 0.9),
            (-0.1, -0.2, -0.05),
            "clearly worse, and a good score on these pictures would not show",
            id="below them",
        ),
        pytest.param((1.0, None, None), (0.1, None, None), "too few pictures to say", id="no interval"),
    ],
)
def test_the_summary_says_when_a_score_proves_nothing(auroc, lead, expected):
    assert expected in words(estimate(*auroc), estimate(0.7, 0.6, 0.8), estimate(*lead))


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        (ALL, "A classifier of file format, size, bytes per pixel and JPEG quality, which sees no pixel, finds"),
        ("width and height", "A classifier of width and height alone, which sees no pixel, finds"),
    ],
)
def test_summary_names_the_strongest_properties_of_files(properties, expected):
    assert expected in good_words(properties=properties)


def test_detector_is_compared_with_the_strongest_properties_of_files(tmp_path):
    store = make_store(tmp_path / "features.zarr")
    columns = open_store(store).columns
    labels, is_test = columns["label"].astype(int), columns["split"] == "test"
    # Width separates the classes everywhere; quality in training, and the other way round in testing.
    change_store(
        store,
        {
            "width": lambda old: (500 + 40 * labels + np.arange(len(old)) % 30).astype(old.dtype),
            "file_quality": lambda old: np.where(labels == is_test, 95, 60).astype(old.dtype),
        },
    )
    contents = make_report(make_run(tmp_path / "run", store), **QUIET).contents
    baseline, auroc = contents["shortcuts"], contents["scopes"]["clean"]["scores"]["auroc"]["value"]
    scores = {one["properties"]: one["auroc"]["value"] for one in baseline["shortcuts"]}
    assert scores[ALL] < scores["width and height"] == max(scores.values())
    assert baseline["strongest"]["properties"] == "width and height"
    assert baseline["lead"]["value"] == pytest.approx(auroc - scores["width and height"])


def test_file_properties_are_fitted_on_the_pictures_of_the_run(tmp_path):
    store = open_store(make_store(tmp_path / "features.zarr"))

    def count(run: Path, split: str, **options) -> int:
        for name, value in options.items():
            edit_json(run / "settings.json", f"train/{name}", value)
        expected = np.isin(store.columns["split"], split.split()) & (store.columns["source"] == "source-0")
        return make_report(run, **QUIET).contents["shortcuts"]["training_pictures"] - int(expected.sum())

    assert count(make_experts_run(tmp_path / "experts", store), "train val", where=["source=source-0"]) == 0
    assert count(make_run(tmp_path / "network", store), "train", where=["source=source-0"]) == 0
    assert count(make_run(tmp_path / "other", store), "train", validate_on=["source-1"]) == 0


def good_words(**parts) -> str:
    return words(estimate(0.9, 0.85, 0.95), estimate(0.6, 0.5, 0.7), estimate(0.3, 0.2, 0.4), **parts)


@pytest.mark.parametrize(
    ("before", "drop", "expected"),
    [
        pytest.param((0.9, 0.85, 0.95), (0.2, 0.1, 0.3), "It used traces that saving removes", id="lost"),
        pytest.param((0.9, 0.85, 0.95), (0.2, -0.1, 0.3), "The difference is not clear", id="kept"),
        pytest.param((0.9, 0.85, 0.95), (0.2, None, None), "There are too few pictures to say whether", id="few"),
        pytest.param((0.5, 0.4, 0.6), (0.2, 0.1, 0.3), None, id="nothing to lose"),
    ],
)
def test_summary_names_the_drop_by_the_jpeg_swap(before, drop, expected):
    auroc = {"as_they_are": estimate(*before), "saved_alike": estimate(0.7, 0.6, 0.8), "drop": estimate(*drop)}
    text = good_words(swap={"scores": {"auroc": auroc}})
    if expected is None:
        assert "saved as JPEG" not in text
    else:
        assert f"in 70 (95% interval 60 to 80) of 100 pairs; before, in 90 (95% interval 85 to 95). {expected}" in text


def test_summary_names_the_worst_sources():
    sources = [
        {"source": name, "class": label, "pictures": 10, "accuracy": estimate(value, value - 0.1, value + 0.1)}
        for name, label, value in (
            ("gan", "fake", 0.8),
            ("sd", "fake", 0.4),
            ("film", "real", 0.6),
            ("phone", "real", 0.9),
        )
    ]
    text = good_words(sources={"clean": sources})
    assert "The generator found least often is sd: 40 (95% interval 30 to 50) of 100 pictures." in text
    assert "with most false alarms is film: 40 (95% interval 30 to 50) of 100 pictures." in text
    unsure = {"unsure": estimate(0.2, 0.1, 0.3), "mistakes_when_judged": estimate(0.0, 0.0, 0.1)}
    text = good_words(sources={"clean": sources}, abstention=unsure)
    assert "If it had to decide, the generator found least often would be sd" in text
    assert "least" not in good_words(sources={"clean": [sources[0], sources[2]]})
    tied = [{**sources[1], "source": name} for name in ("a", "b", "c", "d", "e")]
    text = good_words(sources={"clean": [*sources, *tied]})
    assert "The generators found least often are sd, a, b and 3 more: 40 (95% interval 30 to 50) of 100" in text
    assert "least" not in good_words(sources={"clean": tied})
    few = [{**sources[1], "source": "few", "pictures": 9, "accuracy": estimate(0, 0, 0.3)}]
    text = good_words(sources={"clean": [*sources, *few]})
    assert "is sd: 40 (95% interval 30 to 50) of 100 pictures. Sources with fewer than 10 pictures are left" in text
    assert text.count("fewer than 10") == 1
    assert "least" not in good_words(sources={"clean": [sources[0], *few]})


@pytest.mark.parametrize(
    ("sources", "reasons", "expected"),
    [
        (
            {"real": 1, "fake": 1},
            {"untried": 3},
            "pictures of each class came from one source (sources that share near-duplicates count as one), so",
        ),
        ({"real": 4, "fake": 1}, {}, "All generated pictures in training came from one source (sources"),
    ],
)
def test_summary_says_what_one_source_of_a_class_means(sources, reasons, expected):
    unsure = {"unsure": estimate(1.0, 0.9, 1.0), "mistakes_when_judged": estimate(None, None, None)}
    text = good_words(training_sources=sources, abstention={**unsure, "unsure_by_reason": reasons})
    assert expected in text
    assert ("so no verdict is sure" in text) == bool(reasons)
    assert "such as train/fake/NAME/" in text
    assert "one source" not in good_words(training_sources=None)


@pytest.mark.parametrize(("groups", "expected"), [(None, 2), (0, 1)])
def test_report_counts_the_sources_that_the_run_was_trained_on(tmp_path, groups, expected):
    """As the limits of "unsure" count them: sources that share near-duplicates are one."""
    changes = {"source": lambda old: np.where(np.arange(len(old)) // 4 % 2, "one", "two").astype(object)}
    if groups is not None:
        changes["group"] = lambda old: np.full_like(old, groups)
    report = report_on(tmp_path, store_changes=changes, pictures={"train": (8, 8), "val": (4, 4), "test": (3, 3)})
    assert report.contents["training_sources"] == {"real": expected, "fake": expected}


def test_summary_names_unsure_share_and_deciding_band():
    text = good_words(
        abstention={"unsure": estimate(0.2, 0.1, 0.3), "mistakes_when_judged": estimate(0.05, 0.01, 0.1)},
        deciding={"bands": [{"low": 0.4, "high": 0.5, "auroc_drop": estimate(0.2, 0.1, 0.3)}]},
    )
    assert text.startswith(
        "The detector says “unsure” for 20 (95% interval 10 to 30) of 100 pictures. "
        "Of 100 sure verdicts, 5 (95% interval 1 to 10) are wrong. If it had to decide on every picture, it would call "
    )
    assert "relies most on fine patterns (waves of 2.0 to 2.5 pixels): without them it finds" in text
    assert "20 (95% interval 10 to 30) fewer of 100 pairs" in text
    text = good_words(deciding={"bands": [{"low": 0.4, "high": 0.5, "auroc_drop": estimate(0.2, -0.1, 0.3)}]})
    assert "Leaving out any single band of frequencies makes no clear difference." in text


@pytest.mark.parametrize(
    ("reasons", "experts", "expected"),
    [
        ({"in_band": 4}, {"reason": "the run has no experts"}, ", because the score is not clear enough. If it had"),
        (
            {"unproven": 4},
            {"reason": "the run has no experts"},
            ", because its tests were too small, or did not",
        ),
        (
            {"in_band": 4},
            {"parts": {}},
            ", because the score is not clear enough. Training had only 4 sources of real pictures; with fewer than 15",
        ),
        ({"in_band": 1, "far": 3}, {"parts": {}}, ", mostly because they are unlike the training pictures. If it"),
        (
            {"in_band": 2, "far": 1, "grey": 1},
            {"parts": {}},
            ", most often because the score is not clear enough. Training",
        ),
        ({}, {"parts": {}}, ". If it had"),
    ],
)
def test_summary_says_why_every_picture_is_unsure(reasons, experts, expected):
    none = {"unsure": estimate(1.0, 0.9, 1.0), "mistakes_when_judged": estimate(None, None, None)}
    text = good_words(
        abstention={**none, "unsure_by_reason": reasons}, experts=experts, training_sources={"real": 4, "fake": 20}
    )
    assert text.startswith(f"The detector says “unsure” for every picture{expected}")


# --- page


class Page(HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def test_the_page_shows_the_figures_and_loads_nothing(page, figures):
    parsed = Page(page)
    auroc = figures["scopes"]["clean"]["scores"]["auroc"]
    for text in (f"{auroc['value']:.3f}", f"{auroc['low']:.3f} to {auroc['high']:.3f}", *figures["summary"]):
        assert text in parsed.text
    for metric in METRICS.values():
        assert metric.title in parsed.text
    assert [tag for tag, _ in parsed.tags].count("svg") == 7
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in parsed.tags}
    for _, attributes in parsed.tags:
        for name in ("src", "href", "xlink:href"):
            assert re.match(r"data:image/jpeg;base64,|#|$", attributes.get(name, ""))
    assert "http" not in page.replace("http-equiv", "")
    assert "@import" not in page
    assert all(address.startswith("#") for address in re.findall(r"url\(([^)]*)\)", page))


def test_no_plot_colour_is_left_out_of_dark_mode(page):
    drawings = "".join(re.findall(r"<svg.*?</svg>", page, re.DOTALL))
    assert "var(--fake)" in drawings
    assert "var(--ink)" in drawings
    assert not re.findall(r"(?:fill|stroke): #\w+", drawings)


def test_names_of_files_and_sources_are_escaped(tmp_path):
    attack = '"><img src=x onerror=alert(1)>{{ 7 * 7 }}</style><script>alert(2)</script>'

    def rename(old):
        return np.array([f"{attack}{number}.jpg" for number in range(len(old))], dtype=object)

    report = report_on(
        tmp_path,
        store_changes={"image": rename, "source": lambda old: np.full_like(old, attack)},
        attributes={"roots": ["/<b>root</b>"] * 2},
    )
    parsed = Page(report.html.read_text(encoding="utf-8"))
    assert not {"script", "img"} & {tag for tag, _ in parsed.tags}
    assert all("onerror" not in attributes for _, attributes in parsed.tags)
    assert attack in parsed.text
