"""Of a very large set only a drawn part keeps its thumbnails; the audit looks at that part."""

from dataclasses import replace

import pytest

from data_cards import looks as looks_module
from data_cards import scan as scan_module
from data_cards.audit import audit_pictures
from data_cards.looks import drop_looks
from data_cards.scan import scan_sources
from pipeline import grow as grow_module
from pipeline.plan import plan_build
from pipeline.sample import make_sample
from pipeline.settings import BuildSettings, FeatureSettings


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("looks") / "sample"
    make_sample(folder, train_per_source=20, test_per_source=5, size=64)
    return scan_sources([str(folder)], max_pixels=10**8).pictures


def hashes_of(facts):
    return {one.sha256 for one in facts if one.thumbnail and one.profile}


def test_each_class_keeps_its_lowest_hashes(pictures):
    facts, labels = [one.facts for one in pictures], [one.file.label for one in pictures]
    before = list(facts)
    drop_looks(facts, labels, most=20)
    kept = hashes_of(facts)
    for label in ("real", "fake"):
        own = sorted(one.facts.sha256 for one in pictures if one.file.label == label)
        assert kept & set(own) == set(own[:10])
    assert [replace(one, thumbnail=b"", profile=b"") for one in before] == [
        replace(one, thumbnail=b"", profile=b"") for one in facts
    ]


def test_the_order_and_the_parts_do_not_matter(pictures):
    facts, labels = [one.facts for one in pictures], [one.file.label for one in pictures]
    at_once = list(facts)
    drop_looks(at_once, labels, most=20)
    facts.reverse()
    labels.reverse()
    first = facts[:60]
    drop_looks(first, labels[:60], most=20)
    in_parts = first + facts[60:]
    drop_looks(in_parts, labels, most=20)
    assert hashes_of(in_parts) == hashes_of(at_once)


def test_an_audit_looks_at_those_that_kept_theirs(pictures):
    facts, labels = [one.facts for one in pictures], [one.file.label for one in pictures]
    drop_looks(facts, labels, most=60)
    thinned = [replace(picture, facts=one) for picture, one in zip(pictures, facts, strict=True)]
    found = audit_pictures(thinned)
    assert found.pictures == (30, 30)
    assert found == audit_pictures([one for one in thinned if one.facts.thumbnail])


def test_scan_and_plan_keep_no_more(kaggle_dir, monkeypatch):
    """With the bound made small: scan, plan, and a plan that adds to another."""

    def drop_most(facts, labels):
        drop_looks(facts, labels, most=8)

    monkeypatch.setattr(scan_module, "MOST", 5)  # how often the scan drops
    monkeypatch.setattr(scan_module, "drop_looks", drop_most)
    monkeypatch.setattr(grow_module, "drop_looks", drop_most)
    assert looks_module.MOST > 1000
    found = scan_sources([str(kaggle_dir)], max_pixels=10**8)
    assert len(found.pictures) == 32
    assert len(hashes_of([one.facts for one in found.pictures])) < 8 + 5
    settings = BuildSettings(FeatureSettings(size=16))
    plan = plan_build(found, settings)
    assert len(hashes_of([one.facts for one in plan.pictures])) == 8
    everything = scan_sources([str(kaggle_dir)], max_pixels=10**8, all_looks=True)
    assert len(hashes_of([one.facts for one in everything.pictures])) == 32
    assert plan_build(everything, settings, plan.pictures).pictures == plan.pictures
