"""Device, precision and algorithms of a run."""

import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from data_cards.core.errors import UsageError
from train.settings import SINGLE_LAYER


def pick_device(name: str = "auto") -> torch.device:
    """Return the device of that name; "auto" prefers CUDA, then Apple's MPS, then the CPU.

    Raises
    ------
    UsageError : the device is not available, or the name is unknown
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return torch.device(next(kind for kind, is_usable in available.items() if is_usable))
    if name not in available:
        raise UsageError(f"device {name}: expected one of auto, {', '.join(sorted(available))}")
    if not available[name]:
        usable = ", ".join(kind for kind, is_usable in available.items() if is_usable)
        raise UsageError(f"device {name}: not available to PyTorch here; give one of auto, {usable}")
    return torch.device(name)


def pick_precision(name: str, device: torch.device, network: str) -> torch.dtype:
    """Return torch.bfloat16 or torch.float32; "auto" chooses bf16 on hardware that multiplies in bf16.

    These are CUDA devices from Ampere on, and CPUs with AMX or AVX-512 BF16. On others bf16 is slower. For a
    network of a single layer "auto" chooses float32: it learns from small differences between nearly equal inputs,
    which bf16's eight bits lose.
    """
    if name == "auto":
        name = "bf16" if _has_fast_bf16(device) and network not in SINGLE_LAYER else "float32"
    return {"bf16": torch.bfloat16, "float32": torch.float32}[name]


def name_precision(precision: torch.dtype) -> str:
    """Return the name of a precision in the settings: "bf16" or "float32"."""
    return "bf16" if precision == torch.bfloat16 else "float32"


def name_device(device: torch.device) -> str:
    """Return the model of a device, such as "NVIDIA H100 80GB HBM3"; of a CPU as far as the system reports it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    with suppress(OSError, StopIteration):  # Linux
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return platform.processor() or platform.machine()


def _has_fast_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        # Absent from older PyTorch; then float32 is the safe choice.
        capabilities = getattr(torch.cpu, "get_capabilities", dict)()
        return any(capabilities.get(name, False) for name in ("amx_bf16", "avx512_bf16"))
    return False


@contextmanager
def selected_algorithms(device: torch.device) -> Iterator[None]:
    """Use deterministic algorithms on the CPU, and the fastest, found by trial, on a GPU."""
    deterministic, benchmark = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    filling = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(device.type == "cpu")
    torch.utils.deterministic.fill_uninitialized_memory = False  # costs time, and we read nothing unwritten
    torch.backends.cudnn.benchmark = device.type == "cuda"
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(deterministic)
        torch.utils.deterministic.fill_uninitialized_memory = filling
        torch.backends.cudnn.benchmark = benchmark
