"""Of a very large set only a drawn part keeps its thumbnails; the audit uses that part."""

from dataclasses import replace
from functools import partialmethod

import pytest

from data_cards.audit.audit import audit_pictures
from data_cards.dataset import scan as scan_module
from data_cards.dataset.scan import scan_sources
from data_cards.dataset.table import PictureTable
from pipeline.builder.plan import plan_build
from pipeline.features.settings import FeatureSettings
from pipeline.simulate.sample_set import write_sample
from pipeline.store.settings import BuildSettings


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("looks") / "sample"
    write_sample(folder, train_per_source=20, test_per_source=5, size=64)
    return scan_sources([str(folder)], max_pixels=10**8).pictures


def hashes_of(facts):
    return {one.sha256 for one in facts if one.thumbnail and one.profile}


def drop(pictures, most):
    """The facts of those pictures after all but `most` have lost their thumbnails."""
    table = PictureTable(pictures)
    table.subsample_thumbnails(most)
    return [one.facts for one in table]


def test_subsample_thumbnails_keeps_the_lowest_hashes_of_each_class(pictures):
    before, facts = [one.facts for one in pictures], drop(pictures, 20)
    kept = hashes_of(facts)
    for label in ("real", "fake"):
        own = sorted(one.facts.sha256 for one in pictures if one.file.label == label)
        assert kept & set(own) == set(own[:10])
    assert [replace(one, thumbnail=b"", profile=b"") for one in before] == [
        replace(one, thumbnail=b"", profile=b"") for one in facts
    ]


def test_subsample_thumbnails_does_not_depend_on_order_or_parts(pictures):
    in_parts = PictureTable()
    for number, picture in enumerate(reversed(list(pictures))):
        in_parts.add(picture.file, picture.facts)
        if number % 60 == 0:
            in_parts.subsample_thumbnails(20)
    in_parts.subsample_thumbnails(20)
    assert hashes_of([one.facts for one in in_parts]) == hashes_of(drop(pictures, 20))


def test_audit_uses_the_pictures_that_kept_their_thumbnails(pictures):
    thinned = PictureTable(pictures)
    thinned.subsample_thumbnails(60)
    found = audit_pictures(thinned)
    assert found.pictures == (30, 30)
    assert found == audit_pictures([one for one in thinned if one.facts.thumbnail])


def test_scan_and_plan_keep_a_bounded_number_of_thumbnails(kaggle_dir, monkeypatch):
    """With the bound made small: scan, plan, and a plan that adds to another."""

    monkeypatch.setattr(scan_module, "MOST_THUMBNAILS", 5)  # how often the scan drops
    monkeypatch.setattr(PictureTable, "subsample_thumbnails", partialmethod(PictureTable.subsample_thumbnails, 8))
    found = scan_sources([str(kaggle_dir)], max_pixels=10**8)
    assert len(found.pictures) == 32
    assert len(hashes_of([one.facts for one in found.pictures])) < 8 + 5
    settings = BuildSettings(FeatureSettings(size=16))
    plan = plan_build(found, settings)
    assert len(hashes_of([one.facts for one in plan.pictures])) == 8
    everything = scan_sources([str(kaggle_dir)], max_pixels=10**8, all_thumbnails=True)
    assert len(hashes_of([one.facts for one in everything.pictures])) == 32
    assert plan_build(everything, settings, plan.pictures).pictures == plan.pictures


def test_table_returns_the_pictures_that_were_added(pictures):
    odd = replace(
        pictures[0],
        file=replace(pictures[0].file, image="odd/\udcff name \U0001f5bc.jpg", split="val"),
        facts=replace(pictures[0].facts, bytes=2**40, width=2**30, quality=-1, exif=True, camera=True, thumbnail=b""),
        group=2**33,
    )
    table = PictureTable([*pictures, odd])
    assert list(table) == [*pictures, odd]
    assert (table[-1], table[len(pictures)], table[3:5]) == (odd, odd, [pictures[3], pictures[4]])
    assert table.select([len(pictures), 0]) == [odd, pictures[0]]
    assert table.phashes.tolist() == [list(one.facts.phash) for one in table]
    table.set_groups(range(len(table)))
    table.set_splits(["test"] * len(table))
    assert [(one.group, one.file.split) for one in table] == [(number, "test") for number in range(len(table))]
    with pytest.raises(IndexError):
        table[len(table)]
    assert PictureTable([odd]) != PictureTable(pictures[:1])
