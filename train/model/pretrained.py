"""Loading of ImageNet weights from a file into a network with more input channels.

The file is read as data, never executed: safetensors, or PyTorch's format read with `weights_only=True`.
"""

import pickle
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from data_cards.core.errors import UserError
from train.model.network import LAYERS, ResNet

_EXPECTED = "expected torchvision's ResNet weights, as .safetensors or .pth"


def load_imagenet_weights(network: ResNet, path: str | Path) -> None:
    """Load ImageNet weights into all layers of `network` but the last.

    The first convolution's kernels for R, G, B are repeated over the channels and scaled by
    3/channels, so that its outputs keep their size.

    Raises
    ------
    UserError : no such file, not weights, or weights of another network
    """
    path = Path(path)
    given = {name: value for name, value in _read_tensors(path).items() if not name.startswith("fc.")}
    own = network.state_dict()
    wanted = {name for name in own if not name.startswith("fc.")}
    counters = {name for name in wanted if name.endswith("num_batches_tracked")}  # absent from old files
    missing = sorted(wanted - counters - given.keys())
    unknown = sorted(given.keys() - wanted)
    if missing or unknown:
        names = f"lacks {missing[0]}" if missing else f"has an unexpected {unknown[0]}"
        raise UserError(f"{path}: not the weights of a {network.name}: {names}; {_format_advice(given)}")
    kernels = given["conv1.weight"]
    if kernels.ndim == 4 and kernels.shape[1] == 3:
        given["conv1.weight"] = _tile(kernels, own["conv1.weight"].shape[1])
    for name, value in given.items():
        if value.shape != own[name].shape:
            other_stem = value.shape[2:] != own[name].shape[2:] and name == "conv1.weight"
            advice = "give --stem strided" if other_stem else _format_advice(given)
            raise UserError(
                f"{path}: {name} has shape {tuple(value.shape)}, expected {tuple(own[name].shape)} "
                f"for this {network.name}; {advice}"
            )
    network.load_state_dict({**own, **given})


def _tile(kernels: torch.Tensor, channels: int) -> torch.Tensor:
    repeated = kernels.float().repeat(1, -(-channels // 3), 1, 1)[:, :channels]
    return repeated * (3 / channels)


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise UserError(f"{path}: no such file of weights; {_EXPECTED}")
    try:
        if path.suffix == ".safetensors":
            values = load_file(path)
        else:
            values = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise UserError(f"{path}: cannot be read as weights; {_EXPECTED}") from error
    if isinstance(values, dict) and isinstance(values.get("state_dict"), dict):
        values = values["state_dict"]
    if not isinstance(values, dict) or not values or not all(map(torch.is_tensor, values.values())):
        raise UserError(f"{path}: not named tensors; {_EXPECTED}")
    return dict(values)


def _format_advice(given: dict[str, torch.Tensor]) -> str:
    """Name the network that the tensors' names fit, as advice."""
    names = {name for name in given if not name.endswith("num_batches_tracked")}
    for network in LAYERS:
        with torch.device("meta"):  # shapes only, no memory
            fitting = {
                name
                for name in ResNet(network).state_dict()
                if not name.startswith("fc.") and not name.endswith("num_batches_tracked")
            }
        if names == fitting:
            return f"these are a {network}'s: give --network {network}"
    return _EXPECTED
