"""The price of a run before its first epoch: memory and time, measured with trial steps on a copy of the network."""

import copy
import time
from dataclasses import dataclass, replace

import numpy as np
import torch

from data_cards.core.console import echo
from data_cards.core.errors import UserError
from data_cards.core.memory import measure_free_memory
from data_cards.core.text import format_bytes, format_duration
from train.data.loader import move_batches
from train.loop.context import TrainContext
from train.loop.failures import translating_out_of_memory
from train.loop.step import sample_batches, train_step
from train.loop.validation import is_recalibrated
from train.model.distributed import SINGLE_PROCESS
from train.model.inference import predict_logits
from train.recipe.optimizer import create_optimiser

_LEAST_BATCH = 4  # lowest automatic choice: batch normalisation learns nothing from fewer samples
_TRIAL_SECONDS, _TRIAL_STEPS = 5.0, 5
# Memory of a step besides the values that its backward pass reads. The sum is 1 to 25 % above the measured peak of
# steps at 256 to 1024 px, in float32 and bf16, with ResNet-18 and 50 and the small ResNet.
_MORE, _LIBRARIES = 1.2, 250_000_000
_COPIES = 4  # of the weights: themselves, gradients and two moments
_SPARE = 0.9  # share of the free memory that a batch of automatically chosen size may fill


@dataclass(frozen=True)
class StepMemory:
    """Memory of a step in one process, measured with a trial step.

    Attributes
    ----------
    weights : bytes of the network's parameters
    saved : bytes per sample that the backward pass reads
    levels : bytes of a sample's planes
    inputs : bytes of these planes in float32 where the backward pass reads a copy in bf16; else 0, they are in `saved`
    free : bytes that were free before
    """

    weights: int
    saved: float
    levels: int
    inputs: int
    free: int

    def estimate(self, samples: int) -> float:
        """Estimate the peak of a step, in bytes; an upper estimate."""
        sample = _MORE * self.saved + 3 * self.levels + self.inputs
        return sample * samples + _COPIES * self.weights + _LIBRARIES

    def compute_least(self, samples: int) -> float:
        """Compute the bytes that a step certainly needs."""
        return self.saved * samples + (_COPIES - 1) * self.weights


def measure_step_memory(context: TrainContext) -> StepMemory:
    """Run one trial step of two samples and return its memory."""
    free = _measure_free(context)
    trial = _copy_context(context)
    own = {value.untyped_storage().data_ptr() for value in trial.network.parameters()}
    saved: dict[int, int] = {}  # bytes by address: several operations save the same values

    def record(values: torch.Tensor) -> torch.Tensor:
        storage = values.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return values

    rows = context.rows.train[:2]
    planes, side = len(context.detector.planes), context.store.settings.features.side
    levels = torch.arange(2 * planes * side**2, device=context.device).to(torch.uint8).reshape(2, planes, side, side)
    with torch.autograd.graph.saved_tensors_hooks(record, lambda values: values):
        train_step(trial, levels, rows, 0)
    weights = sum(value.nbytes for value in trial.network.parameters())
    values = planes * side**2
    inputs = 4 * values if context.precision == torch.bfloat16 else 0
    return StepMemory(weights, sum(saved.values()) / 2, values, inputs, free)


def check_batch_size(context: TrainContext, is_given: bool) -> None:
    """Choose a batch size that fits in the free memory and print it if it is below the default, or check the given one.

    Parameters
    ----------
    is_given : whether the user chose `context.settings.batch_size`, so that it is kept

    Raises
    ------
    UserError : the memory does not suffice
    """
    group, settings = context.group, context.settings

    def measure() -> StepMemory:
        with translating_out_of_memory(context.store.path, settings, context.device, context.precision):
            return measure_step_memory(context)

    measured = group.all_gather(group.all_or_raise(measure))
    wanted = min(settings.batch_size, context.rows.count_samples(settings.variants_per_epoch))
    free = min(one.free for one in measured)

    def estimate(size: int) -> float:
        """Estimate the bytes of a step of `size` samples, of which each process has its part."""
        return max(one.estimate(-(-size // group.size)) for one in measured)

    def is_enough(size: int, share: float) -> bool:
        return all(one.estimate(-(-size // group.size)) <= share * one.free for one in measured)

    if is_given:
        least = max(one.compute_least(-(-wanted // group.size)) for one in measured)
        if least > free:
            fitting = next((size for size in range(wanted, 1, -1) if is_enough(size, 1.0)), None)
            given = f"{settings.batch_size}{f', and {fitting} would fit' if fitting else ''}"
            raise group.for_rank(_memory_error(context, wanted, least, free, given))
        if not is_enough(wanted, 1.0):
            echo(
                f"warning: a step of {wanted} samples may take {format_bytes(estimate(wanted))} of memory, "
                f"and {format_bytes(free)} are free; if the system ends the run, lower --batch-size",
                err=True,
            )
        return
    share = _SPARE * (1 - settings.in_memory) if context.device.type != "cuda" else _SPARE
    size = wanted
    while size > _LEAST_BATCH * group.size and not is_enough(size, share):
        size = max(size // 2, _LEAST_BATCH * group.size)
    if not is_enough(size, 1.0):
        raise group.for_rank(_memory_error(context, size, estimate(size), free, str(size)))
    if size < wanted:
        echo(
            f"batch size {size}: a step of {wanted} samples would take "
            f"{format_bytes(estimate(wanted))} of memory, and {format_bytes(free)} are "
            "free; --batch-size sets another",
            err=True,
        )
        context.settings = replace(settings, batch_size=size)


def print_price(context: TrainContext) -> None:
    """Print estimates of the time of an epoch and of the memory of a step, measured in trial steps."""
    batches = sample_batches(context)
    group, rows, settings = context.group, context.rows, context.settings
    size = max(map(len, batches))
    memory = measure_step_memory(context)
    training, scoring = (seconds / group.size for seconds in _measure_seconds(context, batches))
    epoch = training * sum(map(len, batches)) + scoring * len(rows.val)
    left = settings.epochs - context.position.epoch + 1
    calibration = scoring * len(rows.calibration) if is_recalibrated(context) else 0.0
    echo(
        f"an epoch takes about {format_duration(epoch)}, {left} {'epochs' if left > 1 else 'epoch'} at most "
        f"{format_duration(left * epoch + calibration)}; a step of {size} samples about "
        f"{format_bytes(memory.estimate(-(-size // group.size)))} of memory",
        err=True,
    )


def _measure_seconds(context: TrainContext, batches: list[np.ndarray]) -> tuple[float, float]:
    """Return the seconds per sample of training and of scoring in this process, from trial steps.

    The first step starts threads and libraries, so it does not count. The next ones grow as far as `_TRIAL_SECONDS`
    allow.
    """
    group, trial = context.group, _copy_context(context)
    whole = min(len(group.local_part(rows)) for rows in batches)
    _time_step(trial, group.local_part(batches[0])[:2])
    begun, size, sizes, seconds = time.monotonic(), _LEAST_BATCH, [], []
    while len(sizes) < _TRIAL_STEPS:
        sizes.append(min(size, whole))
        seconds.append(_time_step(trial, group.local_part(batches[len(sizes) % len(batches)])[: sizes[-1]]))
        # On GPUs batch normalisation waits for the other processes, so all of them run as many steps.
        left = _TRIAL_SECONDS - max(group.all_gather(time.monotonic() - begun))
        if left < 0:
            break
        size = max(2 * size, int(left / sum(seconds[-1]) * sizes[-1]))
    training, scoring = (_estimate_step(np.array(sizes), np.array(one), whole) for one in zip(*seconds, strict=True))
    return training / whole, scoring / whole


def _estimate_step(sizes: np.ndarray, seconds: np.ndarray, size: int) -> float:
    """Estimate the seconds of a step of `size` samples by the line through smaller steps: each step has fixed costs."""
    largest = sizes.max()
    least = np.median(seconds[sizes == largest])
    most = least * size / largest
    if len(np.unique(sizes)) == 1:
        return most
    return np.clip(np.polyval(np.polyfit(sizes, seconds, 1), size), least, most)


def _time_step(trial: TrainContext, rows: np.ndarray) -> tuple[float, float]:
    """Return the seconds of training on rows and of scoring them, or of reading if that takes longer: they overlap."""
    begun = time.monotonic()
    levels = next(move_batches(trial.loader.read([rows], set()), trial.device))
    read = time.monotonic()
    train_step(trial, levels, rows, 0)
    if trial.device.type == "cuda":
        torch.cuda.synchronize(trial.device)
    trained = time.monotonic()
    predict_logits(trial.detector, levels)
    scored = time.monotonic()
    trial.detector.train()
    return max(read - begun, trained - read), max(read - begun, scored - trained)


def _copy_context(context: TrainContext) -> TrainContext:
    """Return a copy whose steps leave the run's network and optimiser unchanged."""
    detector = copy.deepcopy(context.detector).train()
    optimiser = create_optimiser(detector.network, context.settings)
    return replace(context, detector=detector, network=detector.network, optimiser=optimiser, group=SINGLE_PROCESS)


def _measure_free(context: TrainContext) -> int:
    if context.device.type == "cuda":
        return torch.cuda.mem_get_info(context.device)[0]
    return measure_free_memory() // context.group.local_size


def _memory_error(context: TrainContext, size: int, needed: float, free: int, batch_size: str) -> UserError:
    settings = context.settings
    what = [f"a lower --batch-size (it is {batch_size})"] if size > 2 * context.group.size else []
    if len(settings.kinds) > 1:
        what.append(f"fewer planes with --channels (now {settings.channels})")
    if settings.network not in ("small", "linear", "radial"):
        what.append(f"--network small (now {settings.network})")
    what.append("a store of smaller planes")
    return UserError(
        f"{context.store.path}: a step of {size} samples needs {format_bytes(needed)} of memory, and "
        f"{format_bytes(free)} are free on {context.device}; start a run with {', or '.join(what)}"
    )
