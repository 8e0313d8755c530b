"""Export of a run's detector to ONNX: from levels or profiles as the store holds them to calibrated probabilities.

The file needs neither this program nor PyTorch. Its metadata document the features and the calibration. It is
written only if onnxruntime's probabilities agree with this program's.
"""

import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import nn

from data_cards.core.errors import UsageError, UserError
from data_cards.core.files import whole_file
from data_cards.core.labels import FAKE
from pipeline.features.extract import name_planes
from pipeline.features.settings import FeatureSettings
from train.model.detector import Detector
from train.model.experts_graph import ExpertsGraph, draw_profiles
from train.model.inference import predict_logits
from train.model.plane_detector import PlaneDetector
from train.run.folder import load_detector, open_run
from train.run.weights_file import BEST

TOLERANCE = 1e-4  # of a probability, between onnxruntime and this program
_LIBRARIES = ("onnx", "onnxruntime", "onnxscript")
_OUTPUT = 'calibrated probability of "fake"'
_MOST_BYTES = 2 * 10**9
_DEVIATIONS = (0, 0.25, 0.5, 1)  # of samples drawn near the mean picture, from it


@dataclass(frozen=True)
class OnnxExport:
    """An exported detector.

    Attributes
    ----------
    file : the ONNX file
    bytes : its size
    difference : float, largest between onnxruntime's and this program's probabilities over the samples of the check
    """

    file: Path
    bytes: int
    difference: float


class _CalibratedDetector(nn.Module):
    """All planes of the store (B, planes, H, W) to calibrated probabilities of "fake", float32 (B,)."""

    def __init__(self, detector: PlaneDetector):
        super().__init__()
        self.detector = detector

    def forward(self, levels: torch.Tensor) -> torch.Tensor:
        logits = self.detector(levels[:, self.detector.planes])
        return torch.sigmoid((logits[:, FAKE] - logits[:, 1 - FAKE]) / self.detector.calibration.temperature)


def export_onnx(run: str | Path, file: str | Path, which: str = BEST) -> OnnxExport:
    """Write a run's detector as ONNX, with the output "probability_fake", any batch size.

    The input of a network is "levels", uint8 (N, planes, side, side), that of experts "profiles", float32 (N, 755).

    Raises
    ------
    UsageError : the path is a folder, or in a folder that does not exist
    UserError : the run cannot be opened or has experts and a network, the libraries are missing, or the results differ
    """
    file = Path(file)
    if file.is_dir() or not file.parent.is_dir():
        raise UsageError(f"{file}: expected a file name, such as detector.onnx, in an existing folder")
    missing = [name for name in _LIBRARIES if find_spec(name) is None]
    if missing:
        raise UserError(f"ONNX needs {', '.join(missing)}: install them with pip install 'spectral-detector[onnx]'")
    run = open_run(run)
    whole = load_detector(run, "cpu", which)
    if whole.experts is not None and whole.plane_detector is not None:
        raise UserError(
            f"{run.path}: has experts and a network; expected a run of one of the two, because an ONNX file of this "
            "program has one input; train one with --network none or --experts off"
        )
    detector = whole.plane_detector
    properties = {"store_fingerprint": run.store_fingerprint}
    if detector is None:
        difference = write_experts_onnx(whole, file, **properties)
    elif sum(value.nbytes for value in detector.state_dict().values()) > _MOST_BYTES:
        raise UserError(f"{run.path}: too large for ONNX, whose files hold 2 GB: train on smaller planes")
    else:
        difference = write_onnx(detector, run.build_settings.features, file, **properties)
    return OnnxExport(file, file.stat().st_size, difference)


def write_onnx(detector: PlaneDetector, features: FeatureSettings, file: Path, **properties: str) -> float:
    """Write a network as ONNX, with these properties and its own, if onnxruntime agrees with PyTorch.

    Returns
    -------
    float, the largest difference of their probabilities

    Raises
    ------
    UserError : they differ by more than `TOLERANCE`; then nothing is written
    """
    return _write_checked(
        _CalibratedDetector(detector).eval(),
        "levels",
        _draw_samples(detector, features),
        lambda levels: detector.calibration.probability(predict_logits(detector, levels)),
        {**_compute_properties(detector, features), **properties},
        file,
    )


def write_experts_onnx(detector: Detector, file: Path, **properties: str) -> float:
    """Write a detector of experts alone as ONNX, as `write_onnx` does a network, if onnxruntime agrees with NumPy."""
    own = {
        "input": "profiles as a feature store holds them",
        "output": _OUTPUT,
        "calibration": json.dumps(asdict(detector.calibration)),
        "features": json.dumps(FeatureSettings().to_dict()),
    }
    return _write_checked(
        ExpertsGraph(detector.experts).eval(),
        "profiles",
        draw_profiles(detector.experts, 16),
        lambda profiles: detector.calibration.probability(detector.score([], profiles).logits),
        {**own, **properties},
        file,
    )


def _write_checked(
    model: nn.Module,
    name: str,
    samples: np.ndarray,
    compute_probabilities: Callable[[np.ndarray], np.ndarray],
    properties: dict[str, str],
    file: Path,
) -> float:
    """Write a module with one input of that name, if onnxruntime agrees with `compute_probabilities` on the samples."""
    with whole_file(file) as temporary:
        _write_model(model, name, samples, properties, temporary)
        difference = _compute_difference(name, samples, compute_probabilities, temporary)
        if not difference <= TOLERANCE:  # refuses NaN too
            raise UserError(
                f"{file}: onnxruntime's probabilities differ by {difference:.2g} from this program's; not written"
            )
    return difference


def _draw_samples(detector: PlaneDetector, features: FeatureSettings) -> np.ndarray:
    """Draw levels for the check: noise, and pictures at several distances from the mean one.

    On noise alone a network may be so sure that its probabilities are 0 and 1 whatever its logits. Near the mean
    picture it is unsure.
    """
    rng = np.random.default_rng(0)
    shape = (features.planes, features.side, features.side)
    samples = rng.uniform(0, 255, (2 + len(_DEVIATIONS), *shape))
    mean, std = (values.cpu().numpy() for values in (detector.normalise.mean, detector.normalise.std))
    for sample, deviations in zip(samples, _DEVIATIONS, strict=False):
        sample[detector.planes] = mean + deviations * std * rng.standard_normal(mean.shape)
    return samples.clip(0, 255).round().astype(np.uint8)


def _compute_properties(detector: PlaneDetector, features: FeatureSettings) -> dict[str, str]:
    return {
        "input": "levels as a feature store holds them, planes " + ", ".join(name_planes(features)),
        "output": _OUTPUT,
        "calibration": json.dumps(asdict(detector.calibration)),
        "features": json.dumps(features.to_dict()),
    }


def _write_model(model: nn.Module, name: str, samples: np.ndarray, properties: dict[str, str], file: Path) -> None:
    import onnx

    with _muted_exporter():
        program = torch.onnx.export(
            model,
            (torch.from_numpy(samples),),
            input_names=[name],
            output_names=["probability_fake"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )
    model = program.model_proto
    onnx.helper.set_model_props(model, properties)
    file.write_bytes(model.SerializeToString())


def _compute_difference(
    name: str, samples: np.ndarray, compute_probabilities: Callable[[np.ndarray], np.ndarray], file: Path
) -> float:
    """Compute the largest difference of probabilities, on one sample and on several at once."""
    import onnxruntime

    session = onnxruntime.InferenceSession(file.read_bytes(), providers=["CPUExecutionProvider"])
    differences = []
    for part in (samples[:1], samples):
        found = session.run(["probability_fake"], {name: part})[0]
        differences.append(np.abs(found - compute_probabilities(part)).max())
    return float(np.max(differences))  # NaN, if there is one


@contextmanager
def _muted_exporter() -> Iterator[None]:
    """Mute the exporter, which warns about its own libraries."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
