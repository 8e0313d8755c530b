"""Stores in object storage: the same bytes as on disk, on a real S3 server process on loopback."""

import os
import signal
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from click.testing import CliRunner
from helpers.folders import assert_same_files
from helpers.make_run import make_run
from helpers.pictures import make_kaggle_dir
from helpers.waiting import wait_until

from data_cards.core.errors import StoreError, UserError
from pipeline.builder.build import build_store
from pipeline.cli.main import main
from pipeline.features.settings import FeatureSettings
from pipeline.maintenance.repair import repair_store
from pipeline.maintenance.verify import verify_store
from pipeline.store.filesystem import Storage
from pipeline.store.reader import open_store
from pipeline.store.settings import BuildSettings
from pipeline.store.shard_format import shard_file
from train.model.inference import compute_logits
from train.run.folder import load_detector, open_run

s3fs = pytest.importorskip("s3fs")
SETTINGS = BuildSettings(FeatureSettings(size=16), val_fraction=0.25)


@pytest.fixture(scope="module")
def server():
    """Runs moto's server; the environment then leads to it."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "someone")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        s3fs.S3FileSystem.clear_instance_cache()
        wait_until(partial(answers, port), "the server's answer", process=process)
        s3fs.S3FileSystem().mkdir("bucket")
        yield
    process.kill()
    process.wait()


def answers(port: int) -> bool:
    """Whether a server listens at a port."""
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


def objects_of(url: str) -> dict[str, bytes]:
    storage = Storage(url)
    return {name: storage.read(name) for name in storage.list_files()}


def has_records(url: str, count: int) -> bool:
    """Whether a build has finished so many shards."""
    return len(Storage(url).list_entries("build/done")) >= count


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    return make_kaggle_dir(tmp_path_factory.mktemp("set") / "kaggle", per_source=3)


@pytest.fixture(scope="module")
def url(server, source) -> str:
    """A store in the bucket."""
    return build_store([str(source)], "s3://bucket/a.zarr", SETTINGS, workers=0).path


def test_build_to_object_storage_writes_the_bytes_of_a_local_build(url, source, tmp_path):
    build_store([str(source)], tmp_path / "a.zarr", SETTINGS, workers=0)
    assert_same_files(objects_of(url), tmp_path / "a.zarr")


def test_train_reads_object_storage(url, tmp_path):
    store = open_store(url)
    run = open_run(make_run(tmp_path / "run", store))
    assert run.store_paths == (url,)
    detector = load_detector(run, "cpu").plane_detector
    assert len(compute_logits(detector, store, store.rows("test"))) == len(store.rows("test"))


@pytest.mark.slow
def test_store_in_object_storage_grows(server, source, tmp_path):
    more = make_kaggle_dir(tmp_path / "more", per_source=2, first_seed=1000)
    for out in ("s3://bucket/grown.zarr", str(tmp_path / "grown.zarr")):
        build_store([str(source)], out, SETTINGS, workers=0)
        assert build_store([str(source), str(more)], out, SETTINGS, workers=0).plan.growth.added == 16
        assert build_store([str(source), str(more)], out, SETTINGS, workers=0).made == 0
    assert_same_files(objects_of("s3://bucket/grown.zarr"), tmp_path / "grown.zarr")


def test_repair_in_object_storage_restores_a_flipped_bit(url):
    storage = Storage(url)
    whole = storage.read(shard_file(0))
    storage.write(shard_file(0), whole[:1000] + bytes([whole[1000] ^ 4]) + whole[1001:])
    found = verify_store(url)
    assert [bad.shard for bad in found.bad] == [0]
    assert repair_store(found) == []
    assert storage.read(shard_file(0)) == whole


@pytest.mark.slow
def test_an_unfinished_store_is_refused(server, source):
    from pipeline.builder import build as build_module

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build_module, "write_metadata", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            build_store([str(source)], "s3://bucket/half.zarr", SETTINGS, workers=0)
    with pytest.raises(StoreError, match="the build is not finished"):
        open_store("s3://bucket/half.zarr")
    assert build_store([str(source)], "s3://bucket/half.zarr", SETTINGS, workers=0).made == 0
    open_store("s3://bucket/half.zarr")


def one_line(result, *words):
    """One line on stderr, no traceback, status 1."""
    assert result.exit_code == 1, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: s3://")
    for word in words:
        assert word in line


def test_missing_bucket_or_store_is_one_line(server, source):
    with pytest.raises(UserError, match="no such feature store"):
        open_store("s3://bucket/nothing.zarr")
    failed = CliRunner().invoke(main, ["build", "--src", str(source), "--out", "s3://nowhere/a.zarr", "--workers", "0"])
    one_line(failed, "s3://nowhere/a.zarr: cannot be written", "bucket does not exist")


def test_wrong_credentials_are_one_line(server, source):
    """The server checks signatures while this test runs."""

    def check_from(requests: str) -> None:
        url = f"{os.environ['AWS_ENDPOINT_URL']}/moto-api/reset-auth"
        urlopen(Request(url, data=requests.encode(), headers={"Content-Type": "text/plain"})).close()

    check_from("0")
    try:
        one_line(CliRunner().invoke(main, ["inspect", "s3://bucket/a.zarr"]), "cannot be reached", "credentials")
        build = ["build", "--src", str(source), "--out", "s3://bucket/b.zarr", "--workers", "0"]
        one_line(CliRunner().invoke(main, build), "cannot be reached", "credentials")
    finally:
        check_from("inf")


@pytest.mark.slow
def test_missing_server_is_one_line():
    command = [sys.executable, "-m", "pipeline", "inspect", "s3://bucket/a.zarr"]
    environment = {**os.environ, "AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}
    environment |= {"AWS_ACCESS_KEY_ID": "someone", "AWS_SECRET_ACCESS_KEY": "secret"}
    failed = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: s3://bucket/a.zarr: cannot be reached (")
    assert len(failed.stderr.splitlines()) == 1


@pytest.mark.slow
def test_killed_builds_end_in_the_same_objects(server, tmp_path):
    source = make_kaggle_dir(tmp_path / "kaggle", per_source=24)
    settings = BuildSettings(FeatureSettings(size=64))
    build_store([str(source)], tmp_path / "a.zarr", settings, workers=0)
    command = [
        sys.executable, "-m", "pipeline", "build", "--src", str(source), "--out", "s3://bucket/killed.zarr",
        "--size", "64", "--workers", "2",
    ]  # fmt: skip
    for done in range(1, 4):
        build = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        wait_until(partial(has_records, "s3://bucket/killed.zarr", done), "the next shard", process=build)
        os.killpg(build.pid, signal.SIGKILL)
        build.wait()
    subprocess.run(command, check=True, capture_output=True)
    assert_same_files(objects_of("s3://bucket/killed.zarr"), tmp_path / "a.zarr")
