"""A run's detector as an ONNX file: levels as the store holds them in, calibrated probabilities out.

The file needs neither this program nor PyTorch. Its metadata tell what a picture must be made into and
how the probability is read; a file is only written once onnxruntime gives what PyTorch gives.
"""

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import nn

from data_cards.errors import UsageError, UserError
from pipeline.features import name_planes
from pipeline.store import CLASS_NAMES
from train.checkpoint import BEST
from train.detector import Detector
from train.files import whole_file
from train.predict import predict_logits
from train.run_folder import Run, load_detector, open_run

TOLERANCE = 1e-4  # of a probability, between onnxruntime and PyTorch
_LIBRARIES = ("onnx", "onnxruntime", "onnxscript")
_MOST_BYTES = 2 * 10**9
_FAKE = CLASS_NAMES.index("fake")


@dataclass(frozen=True)
class Exported:
    """An exported network.

    Attributes
    ----------
    file : the ONNX file
    bytes : its size
    difference : largest between onnxruntime's and PyTorch's probabilities, over the samples that it was checked on
    """

    file: Path
    bytes: int
    difference: float


class _Judge(nn.Module):
    """All planes of the store (B, planes, H, W) to calibrated probabilities of "fake", float32 (B,)."""

    def __init__(self, detector: Detector):
        super().__init__()
        self.detector = detector

    def forward(self, levels: torch.Tensor) -> torch.Tensor:
        logits = self.detector(levels[:, self.detector.planes])
        return torch.sigmoid((logits[:, _FAKE] - logits[:, 1 - _FAKE]) / self.detector.calibration.temperature)


def export_onnx(run: str | Path, file: str | Path, which: str = BEST) -> Exported:
    """Write a run's detector as ONNX, with the input "levels" and the output "probability_fake", any batch size.

    Raises
    ------
    UsageError : the file's place cannot be
    UserError : the run cannot be opened, the libraries are missing, or the results differ
    """
    file = Path(file)
    if file.is_dir() or not file.parent.is_dir():
        raise UsageError(f"{file}: expected the name of a file, such as detector.onnx, in a folder that is there")
    missing = [name for name in _LIBRARIES if find_spec(name) is None]
    if missing:
        raise UserError(f"ONNX needs {', '.join(missing)}: install them with pip install 'spectral-detector[onnx]'")
    run = open_run(run)
    detector = load_detector(run, "cpu", which)
    if sum(value.nbytes for value in detector.state_dict().values()) > _MOST_BYTES:
        raise UserError(f"{run.path}: too large for ONNX, whose files hold 2 GB: train on smaller planes")
    samples = _draw_samples(run)
    with whole_file(file) as temporary:
        _write(_Judge(detector).eval(), samples, _describe(run, detector), temporary)
        difference = _compare(detector, samples, temporary)
        if not difference <= TOLERANCE:
            raise UserError(
                f"{file}: onnxruntime's probabilities differ by {difference:.2g} from PyTorch's; not written"
            )
    return Exported(file, file.stat().st_size, difference)


def _draw_samples(run: Run) -> np.ndarray:
    """Levels to try the network on: any picture's planes have the same shape, type and range."""
    features = run.build_settings.features
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (3, features.planes, features.side, features.side)).astype(features.dtype)


def _describe(run: Run, detector: Detector) -> dict[str, str]:
    return {
        "input": "levels as a feature store holds them, planes " + ", ".join(name_planes(run.build_settings.features)),
        "output": 'calibrated probability of "fake"',
        "calibration": json.dumps(asdict(detector.calibration)),
        "features": json.dumps(asdict(run.build_settings.features)),
        "store_fingerprint": run.store_fingerprint,
    }


def _write(judge: _Judge, samples: np.ndarray, properties: dict[str, str], file: Path) -> None:
    import onnx

    with _quiet():
        program = torch.onnx.export(
            judge,
            (torch.from_numpy(samples),),
            input_names=["levels"],
            output_names=["probability_fake"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )
    model = program.model_proto
    onnx.helper.set_model_props(model, properties)
    file.write_bytes(model.SerializeToString())


def _compare(detector: Detector, samples: np.ndarray, file: Path) -> float:
    """Largest difference of probabilities, on one sample and on several at once."""
    import onnxruntime

    session = onnxruntime.InferenceSession(file.read_bytes(), providers=["CPUExecutionProvider"])
    differences = []
    for part in (samples[:1], samples):
        found = session.run(["probability_fake"], {"levels": part})[0]
        differences.append(np.abs(found - detector.calibration.probability(predict_logits(detector, part))).max())
    return float(max(differences))


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns of its own libraries' matters."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
