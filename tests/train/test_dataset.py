"""`FeatureDataset`: items of a store, in this process, in a loader's workers, and after pickling."""

import pickle
import shutil

import numpy as np
import pytest
import torch
import zarr
from helpers.make_store import make_store
from torch.utils.data import DataLoader

from data_cards.core.errors import StoreError, UsageError, UserError
from pipeline.store.concatenated import open_stores
from pipeline.store.reader import open_store
from train.data.dataset import FeatureDataset


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("dataset") / "a.zarr", size=16, variants=("clean", "jpeg-1"), shard=5)


def read_plain(store, features):
    """The features of all rows, as plain Zarr reads them."""
    return zarr.open_group(store, mode="r")["profiles" if features == "profile" else "features"][:]


@pytest.mark.parametrize("features", ["profile", "levels"])
@pytest.mark.parametrize("workers", [0, 2])
def test_loader_gives_the_rows_of_plain_zarr(store, features, workers):
    dataset = FeatureDataset(store, "val", features)
    assert dataset[0][0].dtype == (torch.float32 if features == "profile" else torch.uint8)
    batches = list(DataLoader(dataset, batch_size=5, num_workers=workers))
    rows = open_store(store).rows("val")
    np.testing.assert_array_equal(torch.cat([values for values, _ in batches]), read_plain(store, features)[rows])
    assert torch.cat([labels for _, labels in batches]).tolist() == open_store(store).columns["label"][rows].tolist()


@pytest.mark.parametrize("features", ["profile", "levels"])
def test_pickled_dataset_opens_the_store_by_itself(store, features):
    dataset = FeatureDataset(str(store), None, features)
    copy = pickle.loads(pickle.dumps(dataset))
    assert len(pickle.dumps(dataset)) < 20 * len(dataset) + 2000  # neither the store nor its columns
    values, label = copy[-1]
    np.testing.assert_array_equal(values, read_plain(store, features)[-1])
    assert label == dataset.labels[-1]


def test_split_and_variant_choose_the_items(store):
    columns = open_store(store).columns
    for split in ("train", "val", "test", None):
        for variant in ("clean", None):
            dataset = FeatureDataset(store, split, variant=variant)
            wanted = ((columns["split"] == split) | (split is None)) & ((columns["variant"] == variant) | (not variant))
            assert dataset.rows.tolist() == np.flatnonzero(wanted).tolist()
            assert len(dataset) == wanted.sum()
    assert len(list(FeatureDataset(store, "test", variant="clean"))) == 12


def test_several_stores_are_one_dataset(store, tmp_path):
    other = make_store(tmp_path / "b.zarr", size=16, seed=1, first=500)
    values = torch.stack([values for values, _ in FeatureDataset([store, other], None)])
    np.testing.assert_array_equal(values, np.concatenate([read_plain(one, "profile") for one in (store, other)]))


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        (("trian",), UsageError, "split trian: expected train, val, test or None"),
        (("train", "planes"), UsageError, "features planes: expected profile or levels"),
        ((5,), UsageError, "split 5: expected str or None, got int"),
        (("train", "profile", "web"), UserError, "has no variant web; expected one of clean, jpeg-1"),
    ],
)
def test_wrong_argument_is_named_with_what_is_expected(store, arguments, error, said):
    with pytest.raises(error, match=said):
        FeatureDataset(store, *arguments)


def test_rows_of_an_unknown_split_or_variant_are_refused_and_those_of_an_empty_split_are_none(store, tmp_path):
    for opened in (
        open_store(store),
        open_stores([store, make_store(tmp_path / "b.zarr", size=16, seed=1, first=500)]),
    ):
        with pytest.raises(UsageError, match="split trian: expected train, val, test or None"):
            opened.rows("trian")
        with pytest.raises(UserError, match="has no variant web; expected one of clean, jpeg-1"):
            opened.rows("train", "web")
        assert len(opened.rows(None)) == len(opened)
    assert not len(open_store(make_store(tmp_path / "c.zarr", pictures={"train": (3, 3)})).rows("test"))


@pytest.mark.parametrize("item", [slice(4), 0.5, "0", ["0"]])
def test_item_that_is_no_number_is_refused(store, item):
    with pytest.raises(UsageError, match=r"item .*: expected int, got "):
        FeatureDataset(store)[item]


def test_store_that_is_missing_is_named(tmp_path):
    with pytest.raises(UserError, match=r"absent\.zarr: no such feature store"):
        FeatureDataset(tmp_path / "absent.zarr")


@pytest.mark.parametrize("features", ["profile", "levels"])
def test_damaged_row_is_named_by_a_worker(store, tmp_path, features):
    path = shutil.copytree(store, tmp_path / "a.zarr")
    file = path / ("profiles/c/0/0" if features == "profile" else "features/c/0/0/0/0")
    dataset = FeatureDataset(path, "train", features)
    file.write_bytes(file.read_bytes()[:100] + bytes(50) + file.read_bytes()[150:])
    with pytest.raises(StoreError, match=r"row \d+ \(train/real.*cannot be read"):
        next(iter(DataLoader(dataset, batch_size=4, num_workers=1)))


def test_store_that_was_changed_meanwhile_is_refused(store, tmp_path):
    path = shutil.copytree(store, tmp_path / "a.zarr")
    copy = pickle.dumps(FeatureDataset(path, "train"))
    zarr.open_group(path, mode="r+").attrs["fingerprint"] = "f" * 64
    with pytest.raises(StoreError, match="was changed since the dataset was made"):
        pickle.loads(copy)[0]
