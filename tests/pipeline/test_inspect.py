"""`pipeline inspect`: on a store in the making, with files that come and go, and on a damaged store."""

from threading import Event, Thread

import pytest
from click.testing import CliRunner
from helpers.pictures import make_kaggle_dir
from helpers.stepping import stop_at_steps

from data_cards.core.errors import UserError
from pipeline.cli.main import main
from pipeline.maintenance.inspect import inspect_place
from pipeline.store.filesystem import Storage
from pipeline.store.shard_format import shard_file


def test_inspection_of_a_build_counts_its_shards_as_they_are_made(tmp_path):
    source, out = make_kaggle_dir(tmp_path / "kaggle", per_source=9), tmp_path / "a.zarr"
    command = ["pipeline", "build", "--src", str(source), "--out", str(out), "--size", "16", "--workers", "0"]
    seen = []
    for _ in stop_at_steps(tmp_path / "a.zarr.partial/build", 1, command):
        try:
            seen.append(inspect_place(str(out))[1])
        except UserError as error:
            assert "no such feature store" in str(error) or "the build is not finished" in str(error)  # noqa: PT017
            assert not seen
    seen.append(inspect_place(str(out))[1])
    progress = [one for one in seen if not one["complete"]]
    done = [one["shards_done"] for one in progress]
    assert done == sorted(done)
    assert {1, 2} <= set(done) <= {0, 1, 2}
    assert all(one["shards_done"] + len(one["shards_missing"]) == one["shards"] for one in progress)
    assert seen[-1]["complete"]


@pytest.fixture
def restless(tmp_path):
    """A folder with one file that stays, and others that come and go all the time."""
    stop = Event()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/stays").write_bytes(b"123")

    def come_and_go():
        while not stop.is_set():
            for number in range(20):
                (tmp_path / f"folder/{number}").touch()
            for number in range(20):
                (tmp_path / f"folder/{number}").unlink()

    thread = Thread(target=come_and_go)
    thread.start()
    yield Storage(tmp_path)
    stop.set()
    thread.join()


def test_files_that_come_and_go_hide_no_other(restless):
    for _ in range(300):
        assert "folder/stays" in list(restless.list_files("folder"))
        assert restless.count_bytes() == 3


@pytest.mark.parametrize("damage", ["gone", "short"])
def test_inspect_of_a_damaged_store_is_one_line(kaggle_dir, tmp_path, damage):
    out = tmp_path / "a.zarr"
    command = ["build", "--src", str(kaggle_dir), "--out", str(out), "--size", "16", "--workers", "0"]
    assert CliRunner().invoke(main, command).exit_code == 0
    file = out / shard_file(0)
    file.unlink() if damage == "gone" else file.write_bytes(b"short")
    result = CliRunner().invoke(main, ["inspect", str(out)])
    assert result.exit_code == 3
    assert result.stderr.startswith(f"error: {out}: the store is damaged (shard 0)")
