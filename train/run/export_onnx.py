"""Export of a run's detector to ONNX: from levels, pixels and profiles to calibrated probabilities.

The file needs neither this program nor PyTorch. Its metadata document inputs, output, features and calibration. It is
written only if onnxruntime's probabilities agree with this program's.
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

from data_cards.core.console import warn
from data_cards.core.errors import UsageError, UserError
from data_cards.core.extras import format_install
from data_cards.core.files import whole_file
from data_cards.core.labels import CLASS_NAMES
from data_cards.core.value_types import converts_arguments
from pipeline.features.extract import compute_planes, name_planes
from pipeline.features.settings import FeatureSettings, is_overview_kind
from pipeline.features.versions import get_program_version
from train.model.detector import Detector
from train.model.detector_graph import DetectorGraph
from train.model.experts_graph import draw_profiles
from train.model.plane_detector import PlaneDetector
from train.model.planes_graph import build_planes_graph
from train.run.folder import load_detector, open_run
from train.run.locate import format_unfinished
from train.run.weights_file import BEST

# Largest difference of a probability between onnxruntime and this program. Of levels that the file computes from
# pixels, fewer than 2 in 10,000 are rounded to their neighbours.
TOLERANCE, PIXELS_TOLERANCE = 1e-4, 1e-3
OUTPUT = "probability_fake"
_LIBRARIES = ("onnx", "onnxruntime", "onnxscript")
_MOST_BYTES = 2 * 10**9
_DEVIATIONS = (0, 0.25, 0.5, 1)  # of samples drawn near the mean picture, from it
_SAMPLES = 2 + len(_DEVIATIONS)
_MEANINGS = {
    "levels": "uint8 (N, planes, side, side), levels 0 to 255 as a feature store holds them, in the order of planes",
    "pixels": "uint8 (N, size, size, 3), R, G, B of upright pictures, fitted to the square by features",
    "profiles": "float32 (N, 755), profiles as a feature store holds them",
}


@dataclass(frozen=True)
class OnnxExport:
    """An exported detector.

    Attributes
    ----------
    file : the ONNX file
    bytes : its size
    inputs : names of its inputs, in order
    difference : float, largest between onnxruntime's and this program's probabilities over the samples of the check
    """

    file: Path
    bytes: int
    inputs: tuple[str, ...]
    difference: float


@converts_arguments
def export_onnx(run: str | Path, file: str | Path, which: str = BEST, from_pixels: bool = False) -> OnnxExport:
    """Write a run's detector as ONNX, with the output "probability_fake", float32 (N,), for any N.

    A network adds the input "levels", uint8 (N, planes, side, side), unless its weight beside experts is 0. Experts
    add "profiles", float32 (N, 755). With `from_pixels` the file computes the levels itself, from "pixels", uint8
    (N, size, size, 3): R, G, B of upright pictures that were fitted to the square
    (`pipeline.features.fit.fit_picture`).

    Raises
    ------
    UsageError : the path is a folder, or in a folder that does not exist
    UserError : the run cannot be opened, the libraries are missing, the file would be too large, the probabilities
        differ, or `from_pixels` without a network, or with one that reads an overview
    """
    file = Path(file)
    if file.is_dir() or not file.parent.is_dir():
        raise UsageError(f"{file}: expected a file name, such as detector.onnx, in an existing folder")
    missing = [name for name in _LIBRARIES if find_spec(name) is None]
    if missing:
        raise UserError(f"ONNX needs {', '.join(missing)}: `{format_install('onnx')}`")
    run = open_run(run)
    if unfinished := format_unfinished(run):
        warn(unfinished)
    detector = load_detector(run, "cpu", which)
    features = detector.choose_settings(run.build_settings.features)
    if from_pixels and (detector.plane_detector is None or any(map(is_overview_kind, detector.kinds))):
        found = f"one that reads {', '.join(detector.kinds)}"
        if detector.plane_detector is None:
            found = "a network of weight 0 beside experts" if run.settings.has_network else "experts alone"
        raise UserError(
            f"{run.path}: cannot be exported with pixels as input; expected a network that reads no overview, got "
            f"{found}; leave out --pixels (in Python: from_pixels), and compute the input with compute_file_features "
            "(docs/training.md)"
        )
    inputs, difference = write_onnx(detector, features, file, from_pixels, store_fingerprint=run.store_fingerprint)
    return OnnxExport(file, file.stat().st_size, inputs, difference)


def write_onnx(
    detector: Detector, features: FeatureSettings, file: Path, from_pixels: bool = False, **properties: str
) -> tuple[tuple[str, ...], float]:
    """Write a detector as ONNX, with these properties and its own, if onnxruntime agrees with this program.

    Returns
    -------
    tuple of str, the names of the inputs, and float, the largest difference of the probabilities

    Raises
    ------
    UserError : they differ by more than the tolerance, or the file would be too large; then nothing is written
    """
    graph = DetectorGraph(detector, build_planes_graph(features) if from_pixels else None).eval()
    if sum(tensor.nbytes for tensor in graph.state_dict().values()) > _MOST_BYTES:
        raise UserError(f"{file}: too large for ONNX, whose files hold 2 GB; train on smaller planes")
    samples = _draw_samples(detector, features, from_pixels)
    with whole_file(file) as temporary:
        _write_graph(graph, samples, {**_describe(detector, features, samples), **properties}, temporary)
        difference = _compute_difference(detector, features, samples, temporary)
        tolerance = PIXELS_TOLERANCE if from_pixels else TOLERANCE
        if not difference <= tolerance:  # refuses NaN too
            raise UserError(
                f"{file}: onnxruntime's probabilities differ from this program's; expected at most {tolerance:g}, got "
                f"{difference:.2g}; not written: install the versions of constraints.txt"
            )
    return tuple(samples), difference


def _draw_samples(detector: Detector, features: FeatureSettings, from_pixels: bool) -> dict[str, np.ndarray]:
    """Draw values of each input for the check, by name, in the order of the inputs."""
    samples = {}
    if from_pixels:
        samples["pixels"] = _draw_pixels(features.size)
    elif detector.plane_detector is not None:
        samples["levels"] = _draw_levels(detector.plane_detector, features)
    if detector.experts is not None:
        samples["profiles"] = draw_profiles(detector.experts, _SAMPLES)
    return samples


def _draw_levels(network: PlaneDetector, features: FeatureSettings) -> np.ndarray:
    """Draw noise, and pictures at several distances from the mean one: uint8 (6, planes, side, side).

    On noise alone a network may be so sure that its probabilities are 0 and 1, which hides differences of logits. Near
    the mean picture it is unsure.
    """
    rng = np.random.default_rng(0)
    samples = rng.uniform(0, 255, (_SAMPLES, features.planes, features.side, features.side))
    mean, std = (values.cpu().numpy() for values in (network.normalise.mean, network.normalise.std))
    for sample, deviations in zip(samples, _DEVIATIONS, strict=False):
        sample[network.planes] = mean + deviations * std * rng.standard_normal(mean.shape)
    return samples.clip(0, 255).round().astype(np.uint8)


def _draw_pixels(size: int) -> np.ndarray:
    """Draw pictures with the falling spectrum of photographs, from smooth to noisy: uint8 (6, size, size, 3)."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal((_SAMPLES, size, size, 3)).cumsum(1).cumsum(2)
    values = 128 + 50 * (values - values.mean((1, 2), keepdims=True)) / values.std((1, 2), keepdims=True)
    values += np.geomspace(0.1, 100, _SAMPLES)[:, None, None, None] * rng.standard_normal(values.shape)
    return values.clip(0, 255).round().astype(np.uint8)


def _describe(detector: Detector, features: FeatureSettings, inputs: dict[str, np.ndarray]) -> dict[str, str]:
    """Describe inputs, output, features and calibration: the metadata of the file, texts or JSON."""
    properties = {
        "inputs": {name: _MEANINGS[name] for name in inputs},
        "output": f'{OUTPUT}: float32 (N,), calibrated probability of class 1, "fake": a generated picture',
        "class_names": CLASS_NAMES,
        "planes": name_planes(features),
        "features": features.to_dict(),
        "calibration": asdict(detector.calibration),
        "program": f"spectral-detector {get_program_version()}",
    }
    if detector.experts is not None:
        properties["network_weight"] = detector.experts.network_weight
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in properties.items()}


def _write_graph(graph: DetectorGraph, samples: dict[str, np.ndarray], properties: dict[str, str], file: Path) -> None:
    import onnx

    tensors = {
        "profiles" if name == "profiles" else "planes": torch.from_numpy(values) for name, values in samples.items()
    }
    with _muted_exporter():
        program = torch.onnx.export(
            graph,
            kwargs=tensors,
            input_names=list(samples),
            output_names=[OUTPUT],
            dynamic_shapes={name: {0: torch.export.Dim("batch")} for name in tensors},
            verbose=False,
        )
    model = program.model_proto
    onnx.helper.set_model_props(model, properties)
    file.write_bytes(model.SerializeToString())


def _compute_difference(
    detector: Detector, features: FeatureSettings, samples: dict[str, np.ndarray], file: Path
) -> float:
    """Compute the largest difference of probabilities, on one sample and on several at once."""
    import onnxruntime

    levels = samples.get("levels")
    if "pixels" in samples:
        levels = np.stack([compute_planes(rgb, features) for rgb in samples["pixels"]])
    profiles = samples.get("profiles", np.zeros((_SAMPLES, 0), np.float32))
    scores = detector.score([] if levels is None else levels[:, None], profiles)
    wanted = detector.calibration.probability(scores.logits)
    session = onnxruntime.InferenceSession(file.read_bytes(), providers=["CPUExecutionProvider"])
    found = [session.run([OUTPUT], {name: values[:n] for name, values in samples.items()})[0] for n in (1, _SAMPLES)]
    return float(np.max([np.abs(one - wanted[: len(one)]).max() for one in found]))  # NaN, if there is one


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
