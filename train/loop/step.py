"""The steps of an epoch: batches in, weights changed.

All random draws are pure functions of the seed and the step. A run resumes from its `Position`, its weights and its
optimiser, so an epoch may be stopped after any step.
"""

import math
import time
from collections.abc import Iterator
from contextlib import closing

import numpy as np
import torch
from torch.nn import functional
from tqdm import tqdm

from train.data.loader import move_batches
from train.data.sampling import draw_seed, sample_epoch, split_batches
from train.loop.context import StepRecord, TrainContext, loss_error, record_skipped, save_context, stop_error
from train.loop.resume_state import Position
from train.recipe.optimizer import learning_rate, set_learning_rate

# Reading a loss makes the CPU wait for the GPU, so the losses of several steps on a GPU are read together.
_STEPS_BETWEEN_READINGS = 20


def sample_batches(context: TrainContext) -> list[np.ndarray]:
    """Return the rows of every step of the current epoch."""
    settings, rows, epoch = context.settings, context.rows, context.position.epoch
    order = sample_epoch(
        rows.train, rows.train_pictures, settings.seed, epoch, settings.variants_per_epoch, rows.strata
    )
    return split_batches(order, settings.batch_size)


def train_epoch(context: TrainContext, batches: list[np.ndarray], bar: tqdm) -> None:
    """Run the steps of the epoch that are not done yet.

    Parameters
    ----------
    batches : rows of every step of the epoch; unreadable rows that may be skipped are removed from it
    bar : the epoch's progress bar, to which the samples are added
    """
    settings, position = context.settings, context.position
    skipped = set(position.skipped) if settings.on_bad_sample == "skip" else None
    reading = context.loader.read([context.group.local_part(rows) for rows in batches[position.batch :]], skipped)
    clock = _EpochClock(position, 60 * settings.save_minutes)
    results = _StepResults(context, batches)
    context.detector.train()
    with closing(reading):
        for levels in _timed(position, move_batches(reading, context.device)):
            levels, rows = _drop_unreadable(context, levels, batches[position.batch], skipped)
            batches[position.batch] = rows
            step = (position.epoch - 1) * len(batches) + position.batch
            set_learning_rate(context.optimiser, learning_rate(step, len(batches), settings, position.prolonged))
            if len(rows) > 1:  # batch normalisation needs two
                results.add(position.batch, train_step(context, levels, rows, step))
            position.batch += 1
            bar.update(len(rows))
            clock.update()
            if results.is_reading_due(clock.is_save_due):
                is_stop_requested = results.read()
                bar.set_postfix(loss=f"{position.loss_sum / max(position.seen, 1):.3f}", refresh=False)
                if clock.is_save_due or is_stop_requested:
                    save_context(context)
                    clock.restart_saving()
                if is_stop_requested:
                    raise stop_error(
                        context, f"in epoch {position.epoch}, after {position.batch} of {len(batches)} steps"
                    )


class _EpochClock:
    """The seconds of an epoch, kept in its position, and those since its state was saved."""

    def __init__(self, position: Position, save_seconds: float):
        self._position, self._save_seconds = position, save_seconds
        self._now = self._saved = time.monotonic()
        self._begun = self._now - position.seconds

    def update(self) -> None:
        """Read the clock: the other methods refer to this moment."""
        self._now = time.monotonic()
        self._position.seconds = self._now - self._begun

    @property
    def is_save_due(self) -> bool:
        return self._now - self._saved > self._save_seconds

    def restart_saving(self) -> None:
        self._saved = self._now


class _StepResults:
    """The sums of the last steps, which stay on the device until several are read at once."""

    def __init__(self, context: TrainContext, batches: list[np.ndarray]):
        self._context, self._batches = context, batches
        self._is_single = context.group.size == 1
        self._most = 1 if context.device.type == "cpu" or context.on_step else _STEPS_BETWEEN_READINGS
        self._unread: list[tuple[int, torch.Tensor]] = []

    def add(self, batch: int, sums: torch.Tensor) -> None:
        """Add what `train_step` returned for a batch, given by its number in the epoch."""
        self._unread.append((batch, sums))
        self._context.position.seen += len(self._batches[batch])

    def is_reading_due(self, is_save_due: bool) -> bool:
        """Return whether to read now. Several processes read, and so learn of a stop, after the same steps."""
        if len(self._unread) >= self._most or self._context.position.batch == len(self._batches):
            return True
        return self._is_single and (is_save_due or self._context.stop.received is not None)

    def read(self) -> bool:
        """Add the losses to the position, call `on_step`, and return whether a process was asked to stop.

        Raises
        ------
        UserError : a loss is not finite
        """
        context, position = self._context, self._context.position
        is_stop_requested = False
        for batch, sums in self._unread:
            loss, correct, stop = sums.tolist()
            rows = self._batches[batch]
            if not math.isfinite(loss):
                raise loss_error(context, loss, f"step {batch + 1}", rows)
            position.loss_sum += loss * len(rows)
            position.correct += round(correct)
            is_stop_requested |= stop > 0
            if context.on_step is not None:
                context.on_step(
                    StepRecord(position.epoch, batch + 1, rows, loss, correct / len(rows), context.detector)
                )
        self._unread.clear()
        return is_stop_requested or (self._is_single and context.stop.received is not None)


def _timed(position: Position, batches: Iterator[torch.Tensor]) -> Iterator[torch.Tensor]:
    """Yield the batches, and add the time spent waiting for each of them to the position.

    A GPU may still compute earlier steps meanwhile, so for a GPU this is an upper bound of its own waiting.
    """
    while True:
        begun = time.monotonic()
        batch = next(batches, None)
        position.waited += time.monotonic() - begun
        if batch is None:
            return
        yield batch


def _drop_unreadable(
    context: TrainContext, levels: torch.Tensor, rows: np.ndarray, skipped: set[int] | None
) -> tuple[torch.Tensor, np.ndarray]:
    """Return the batch without its unreadable rows, and record these."""
    if not skipped:
        return levels, rows
    kept = ~np.isin(rows, sorted(skipped))
    record_skipped(context, rows[~kept])
    return (levels, rows) if kept.all() else (levels[torch.from_numpy(kept).to(levels.device)], rows[kept])


def train_step(context: TrainContext, levels: torch.Tensor, rows: np.ndarray, step: int) -> torch.Tensor:
    """Run one step of the optimiser.

    Parameters
    ----------
    levels : Tensor of uint8, shape (b, planes, H, W), of this process's part of the batch
    rows : ndarray of int, shape (n,), of the whole batch
    step : int, from 0, over all epochs

    Returns
    -------
    Tensor of float32, shape (3,), on the device: mean loss, number of correct predictions, and
    number of processes that were asked to stop
    """
    group = context.group
    # Dropout is seeded by step and process: a resumed run draws what an uninterrupted one would have.
    torch.manual_seed(draw_seed(context.settings.seed, step * group.size + group.rank))
    labels = torch.from_numpy(context.labels[group.local_part(rows)]).to(context.device)
    values = context.detector.normalise(levels)
    with torch.autocast(context.device.type, dtype=torch.bfloat16, enabled=context.precision == torch.bfloat16):
        logits = context.network(values)
    logits = logits.float()
    loss = functional.cross_entropy(logits, labels, label_smoothing=context.settings.label_smoothing)
    context.optimiser.zero_grad(set_to_none=True)
    # Processes average the gradients of their parts, so each counts by its samples.
    (loss * (len(labels) * group.size / len(rows))).backward()
    context.optimiser.step()
    correct = (logits.argmax(1) == labels).sum()
    stop = torch.full_like(loss, context.stop.received is not None)
    return group.all_reduce(torch.stack([loss.detach() * (len(labels) / len(rows)), correct, stop]))
