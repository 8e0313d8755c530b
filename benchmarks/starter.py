"""Train the starter run that comes with the program, `train/starter`, and record its scores.

    python benchmarks/starter.py --src photos --pairs photos-pairs

It builds a store of `--src`, trains the default on its training pictures, and scores its test pictures and `--pairs`,
which were not trained on, by `report` and by `predict`. It keeps only the run's numbers and its data card, none of the
pictures.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).parents[1]))  # before this folder, where `train` is another file
from data_cards.core.console import Command
from data_cards.core.errors import UserError
from data_cards.core.files import RUN_SETTINGS, RUN_SUMMARY, write_json
from data_cards.core.labels import TEST
from eval.report.contents import drop_rows
from eval.report.report import make_report
from eval.verdict.predict import predict_files
from pipeline.builder.build import build_store
from pipeline.store.reader import open_store
from pipeline.store.settings import BuildSettings
from train.loop.trainer import train
from train.model.calibration import UNSURE
from train.run.folder import DATA_CARD, Run, open_run
from train.run.locate import STARTER, STARTER_SCORES
from train.settings import TrainSettings

ROOT = Path(__file__).resolve().parents[1]
KEPT = ("summary", "abstention", "variants", "sources", "shortcuts")  # of the reports


@click.command(cls=Command)
@click.option("--src", required=True, type=click.Path(path_type=Path), help="Pictures as SPLIT/CLASS/SOURCE/...")
@click.option("--pairs", required=True, type=click.Path(path_type=Path), help="Collections with both classes.")
@click.option("--out", default=STARTER, type=click.Path(path_type=Path), help="Folder of the run.")
def main(src: Path, pairs: Path, out: Path) -> None:
    """Train the starter run and write it."""
    _check_committed()
    with tempfile.TemporaryDirectory() as folder:
        stores = {}
        for name, pictures in (("test", src), ("pairs", pairs)):
            stores[name] = Path(folder) / f"{name}.zarr"
            build_store([str(pictures)], str(stores[name]), BuildSettings())
        run = Path(folder) / "run"
        train(TrainSettings(store=str(stores["test"]), run=str(run)))
        scores = {
            name: {
                **_shorten(make_report(run, store, out=Path(folder) / name, swap_pictures=0).contents),
                "verdicts": _count_verdicts(open_run(run), store),
            }
            for name, store in stores.items()
        }
        for file in out.glob("*.json"):
            file.unlink()
        out.mkdir(exist_ok=True)
        for name in ("experts.safetensors", DATA_CARD, RUN_SUMMARY):
            shutil.copy(run / name, out)
        write_json(out / STARTER_SCORES, scores)
        write_json(out / RUN_SUMMARY, json.loads((run / RUN_SUMMARY).read_text()) | {"run": out.name})
        settings = json.loads((run / RUN_SETTINGS).read_text())
        write_json(out / RUN_SETTINGS, _clean_settings(settings, src.name, out.name))


def _check_committed() -> None:
    """Raise `UserError` if files that decide the run differ from the commit that the run records."""
    code = ("data_cards", "pipeline", "train", "eval", "benchmarks/starter.py", ":!train/starter")
    command = ["git", "-C", str(ROOT), "status", "--porcelain", "--", *code]
    try:
        changed = subprocess.run(command, capture_output=True, check=True, text=True).stdout.splitlines()
    except (OSError, subprocess.SubprocessError) as error:
        raise UserError(f"{ROOT}: git cannot say which files changed ({error}); run this in a git checkout") from error
    if changed:
        raise UserError(
            f"{ROOT}: expected committed code, {len(changed)} files differ ({changed[0]}); commit them first"
        )


def _count_verdicts(run: Run, path: Path) -> dict[str, int]:
    """Count the test pictures of a store, and the sure and the wrong verdicts that `predict` gives them."""
    store = open_store(path)
    tests = [picture.file for picture in store.read_pictures() if picture.file.split == TEST]
    verdicts = predict_files(run, [file.path for file in tests])
    sure = [one.verdict == file.label for one, file in zip(verdicts, tests, strict=True) if one.verdict != UNSURE]
    return {"pictures": len(tests), "sure": len(sure), "wrong": sure.count(False)}


def _shorten(contents: dict) -> dict:
    return drop_rows({name: contents[name] for name in KEPT})


def _clean_settings(settings: dict, src: str, run: str) -> dict:
    """Return a run's settings without the places of the machine that it was trained on."""
    settings["train"] |= {"store": [f"{src}.zarr"], "run": run}
    settings["store"]["paths"] = [f"{src}.zarr"]
    settings["versions"].pop("platform")
    return settings


if __name__ == "__main__":
    main()
