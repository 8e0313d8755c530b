"""docs/store.md: its tables name all of a store's arrays, columns, attributes and variants, and its code runs."""

import hashlib
import json
import re
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
import zarr
from helpers.pictures import draw_noise, make_kaggle_dir

from pipeline.builder.build import build_store
from pipeline.features.extract import compute_file_features
from pipeline.features.periodogram import compute_periodogram, compute_periodogram_levels
from pipeline.features.profile_vectors import PROFILE_VECTORS, split_profiles
from pipeline.features.settings import FeatureSettings
from pipeline.features.variants import RECIPES, draw_variants
from pipeline.features.welch import ARTANH_LIMIT
from pipeline.store.arrays import ARRAYS
from pipeline.store.checksum import compute_checksum
from pipeline.store.reader import open_store
from pipeline.store.schema import FORMAT_VERSION, SAMPLE_COLUMNS, Attribute
from pipeline.store.settings import BuildSettings

PAGE = (Path(__file__).parents[2] / "docs/store.md").read_text(encoding="utf-8")
CODE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def read_rows(heading: str, *column: int) -> dict[str, tuple[str, ...]]:
    """The named cells of each row of the table with this first column, by the row's first cell."""
    table = PAGE.split(f"\n| {heading} |", 1)[1].split("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return {cells[0].strip("`"): tuple(cells[number] for number in column) for cells in rows}


def test_every_array_is_listed_with_its_axes_and_type():
    listed = {}
    for part in PAGE.split("\n| array |")[1:]:
        for line in part.split("\n\n")[0].splitlines()[2:]:
            name, axes, kind = (cell.strip() for cell in line.split("|")[1:4])
            listed[name.strip("`")] = (tuple(axes.split(" (")[0].split(", ")), kind)
    wanted = {name: (form.axes, form.data_type) for name, form in ARRAYS.items() if name not in SAMPLE_COLUMNS}
    assert listed == wanted


def test_every_column_is_listed_with_its_type():
    assert read_rows("column", 1) == {name: (kind,) for name, (kind, _) in SAMPLE_COLUMNS.items()}


def test_every_attribute_is_listed():
    rows = read_rows("attribute", 2)
    assert rows.keys() == {value for name, value in vars(Attribute).items() if not name.startswith("_")}
    assert rows[Attribute.FORMAT_VERSION][0].startswith(f"{FORMAT_VERSION}. ")


def test_every_vector_of_a_profile_is_listed_where_it_is():
    places = np.arange(755)
    rows = {name.strip("`"): numbers for numbers, (name,) in read_rows("numbers", 1).items()}
    assert rows == {name: f"{own[0]} to {own[-1]}" for name, own in split_profiles(places).items()}
    assert list(rows) == list(PROFILE_VECTORS)


def test_every_variant_is_listed_with_its_recipe():
    listed = {recipe.split("`")[0]: names for recipe, (names,) in read_rows("`--variants` of the build", 1).items()}
    assert listed == {recipe: ", ".join(one.name for one in draw_variants(recipe, 0, b"")) for recipe in RECIPES}


def test_formulas_turn_levels_into_nats_and_radians():
    side = 16
    rgb = np.asarray(draw_noise(3, side, side))
    values, levels = compute_periodogram(rgb), compute_periodogram_levels(rgb).astype(float)
    for planes, found, step in (
        (slice(0, 3), levels[:3] / 255 * np.log(1 + 255 * side * side), np.log(1 + 255 * side * side) / 255),
        (slice(6, 9), levels[6:] / 255 * np.log(1 + 255 * side), np.log(1 + 255 * side) / 255),
    ):
        assert np.abs(found - values[planes]).max() <= step / 2 + 1e-5
    turns = (2 * np.pi * levels[3:6] / 256 - values[3:6] + np.pi) % (2 * np.pi) - np.pi
    assert np.abs(turns).max() <= np.pi / 256 + 1e-5
    assert ARTANH_LIMIT == 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the files that the page's code reads."""
    folder = tmp_path_factory.mktemp("page")
    source = str(make_kaggle_dir(folder / "kaggle", per_source=1))
    for name, packing in (("features", "mirror"), ("plain", "none")):
        settings = BuildSettings(FeatureSettings(size=16), variants="clean", packing=packing)
        build_store([source], str(folder / f"{name}.zarr"), settings, workers=0)
    store = open_store(folder / "features.zarr")
    folder.joinpath("picture.jpg").write_bytes(store.picture_path(0).read_bytes())
    return folder


def test_code_of_the_page_runs(folder, monkeypatch):
    monkeypatch.chdir(folder)
    names: dict = {"__name__": "page"}
    for block in CODE:
        exec(compile(block, "docs/store.md", "exec"), names)
    store = open_store("features.zarr")
    np.testing.assert_array_equal(names["levels"][0], store.features[0])
    np.testing.assert_array_equal(names["profile"], store.read_profiles(np.array([0]))[0])
    assert len(CODE) >= 6


def test_checksums_and_digests_are_computed_as_the_page_says(folder):
    store = folder / "features.zarr"
    attributes = json.loads((store / "zarr.json").read_text())["attributes"]
    for shard, wanted in enumerate(zarr.open(store, mode="r")["checksums"][:]):
        files = [store / f"features/c/{shard}/0/0/0", store / f"profiles/c/{shard}/0"]
        assert wanted.tobytes() == b"".join(map(checksum, files))
    for name, wanted in attributes["arrays"].items():
        alone = name in ("features", "profiles", "statistics")
        files = [store / name / "zarr.json"] if alone else filter(Path.is_file, (store / name).rglob("*"))
        hashed = hashlib.sha256()
        for path, file in sorted((file.relative_to(store).as_posix(), file) for file in files):
            hashed.update(f"{path} {file.stat().st_size}\n".encode() + file.read_bytes())
        assert hashed.hexdigest() == wanted, name
    wanted = attributes.pop("digest")
    assert hashlib.sha256(json.dumps(attributes, sort_keys=True).encode()).hexdigest() == wanted


def checksum(file: Path) -> bytes:
    """The checksum of a shard's file, by another program than this one's."""
    content, step = file.read_bytes(), 2**20
    starts = range(0, len(content) + 1, step)
    values = b"".join(google_crc32c.value(content[start : start + step]).to_bytes(4, "little") for start in starts)
    return hashlib.sha256(values).digest()


@pytest.mark.parametrize("size", [2**20 - 1, 2**20, 2**20 + 1])
def test_last_block_of_a_checksum_may_be_empty(tmp_path, size):
    file = tmp_path / "file"
    file.write_bytes(bytes(size))
    assert checksum(file).hex() == compute_checksum(file.read_bytes())


def test_features_of_a_file_without_settings_are_its_profile(folder):
    levels, profile = compute_file_features(folder / "picture.jpg")
    assert levels.shape == (1, 0, 0, 0)
    np.testing.assert_array_equal(profile, open_store(folder / "features.zarr").read_profiles(np.array([0]))[0])
