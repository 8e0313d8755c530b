"""The steps of an epoch: batches in, weights changed.

Everything random is a pure function of the seed and the step, and all that a run goes on from is
in its `Position`, the weights and the optimiser: the epoch may be stopped after any step.
"""

import math
import time
from collections.abc import Iterator
from contextlib import closing

import numpy as np
import torch

from data_cards.core.console import progress
from train.data.loader import move_batches
from train.data.sampling import draw_seed, sample_epoch, split_batches
from train.loop.context import StepRecord, TrainContext, loss_error, record_skipped, save_context, stop_error
from train.loop.resume_state import Position
from train.recipe.optimizer import learning_rate, set_learning_rate
from train.recipe.vrex import compute_sample_weights

# Reading a loss makes the computer wait for the GPU, so there they are read a few steps at a time.
_STEPS_BETWEEN_READINGS = 20


def sample_batches(context: TrainContext) -> list[np.ndarray]:
    """Rows of every step of the current epoch."""
    settings, rows = context.settings, context.rows
    order = sample_epoch(
        rows.train,
        rows.train_pictures,
        settings.seed,
        context.position.epoch,
        settings.variants_per_epoch,
        rows.strata,
    )
    return split_batches(order, settings.batch_size)


def train_epoch(context: TrainContext, batches: list[np.ndarray]) -> None:
    """Take the steps of the epoch that are not done yet."""
    settings, position = context.settings, context.position
    skipped = set(position.skipped) if settings.on_bad_sample == "skip" else None
    reading = context.loader.read([context.group.local_part(rows) for rows in batches[position.batch :]], skipped)
    alone = context.group.size == 1
    every = 1 if context.device.type == "cpu" or context.on_step else _STEPS_BETWEEN_READINGS
    unread: list[tuple[int, torch.Tensor]] = []
    begun = saved = time.monotonic()
    seconds_before = position.seconds
    bar = progress(what=f"epoch {position.epoch}/{settings.epochs}", unit="samples", total=sum(map(len, batches)))
    bar.leave = False  # the epoch's line takes its place
    bar.n = bar.initial = position.seen  # of a resumed epoch, for a true rate
    context.detector.train()
    with bar, closing(reading):
        for levels in _timed(position, move_batches(reading, context.device)):
            rows = batches[position.batch]
            if alone:  # the others would have to hear of it
                levels, rows = _drop_unreadable(context, levels, rows, skipped)
                batches[position.batch] = rows
            step = (position.epoch - 1) * len(batches) + position.batch
            set_learning_rate(context.optimiser, learning_rate(step, len(batches), settings))
            if len(rows) > 1:  # batch normalisation needs two
                unread.append((position.batch, train_step(context, levels, rows, step)))
                position.seen += len(rows)
            position.batch += 1
            bar.update(len(rows))
            now = time.monotonic()
            position.seconds = seconds_before + now - begun
            to_save = now - saved > 60 * settings.save_minutes
            # The processes of a team read their sums, and so hear of a stop, after the same steps.
            at_once = alone and (to_save or context.stop.received is not None)
            if len(unread) >= every or position.batch == len(batches) or at_once:
                to_stop = _collect_sums(context, batches, unread)
                to_stop |= alone and context.stop.received is not None
                bar.set_postfix(loss=f"{position.loss_sum / max(position.seen, 1):.3f}", refresh=False)
                if to_save or to_stop:
                    save_context(context)
                    saved = now
                if to_stop:
                    done = f"after {position.batch} of {len(batches)} steps"
                    raise stop_error(context, f"in epoch {position.epoch}, {done}")


def _timed(position: Position, batches: Iterator[torch.Tensor]) -> Iterator[torch.Tensor]:
    """The same batches; the time that they are waited for is added up.

    A GPU that still has steps to compute meanwhile does not wait itself, so for it this is the most.
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
    """The batch without its unreadable rows; each of them is noted and told of once."""
    if not skipped:
        return levels, rows
    kept = ~np.isin(rows, sorted(skipped))
    record_skipped(context, rows[~kept])
    return (levels, rows) if kept.all() else (levels[torch.from_numpy(kept).to(levels.device)], rows[kept])


def train_step(context: TrainContext, levels: torch.Tensor, rows: np.ndarray, step: int) -> torch.Tensor:
    """One step of the optimiser.

    Parameters
    ----------
    levels : of this process's part of the batch
    rows : of the whole batch

    Returns
    -------
    float (3,), on the device: mean loss (without the penalty), number of right answers, and how many processes were
    asked to stop
    """
    group = context.group
    # Dropout is seeded by step and process: a resumed run draws what an uninterrupted one would have.
    torch.manual_seed(draw_seed(context.settings.seed, step * group.size + group.rank))
    labels = torch.from_numpy(context.labels[group.local_part(rows)]).to(context.device)
    draws = context.augmenter.draw(step, len(rows), group)
    values = context.augmenter.mix_values(context.detector.normalise(levels), draws)
    with torch.autocast(context.device.type, dtype=torch.bfloat16, enabled=context.precision == torch.bfloat16):
        logits = context.network(values)
    logits = logits.float()
    losses = context.augmenter.compute_losses(logits, labels, draws)
    loss = weighed = losses.mean()
    if penalty := context.settings.source_penalty:
        sources = torch.from_numpy(context.sources[group.local_part(rows)]).to(context.device)
        weighed = (
            losses * compute_sample_weights(losses, sources, int(context.sources.max()) + 1, penalty, group)
        ).mean()
    context.optimiser.zero_grad(set_to_none=True)
    # The team takes the mean of the parts' gradients, so each counts by its samples.
    (weighed * (len(labels) * group.size / len(rows))).backward()
    context.optimiser.step()
    stop = torch.full_like(loss, context.stop.received is not None)
    return group.all_reduce(
        torch.stack([loss.detach() * (len(labels) / len(rows)), (logits.argmax(1) == labels).sum(), stop])
    )


def _collect_sums(context: TrainContext, batches: list[np.ndarray], unread: list[tuple[int, torch.Tensor]]) -> bool:
    """Add the losses of the last steps to the sums and tell `on_step`; a loss that is not finite ends the run.

    Returns
    -------
    whether a process of the team was asked to stop
    """
    to_stop = False
    for number, sums in unread:
        loss, correct, stop = sums.tolist()
        if not math.isfinite(loss):
            raise loss_error(context, loss, f"step {number + 1}", batches[number])
        context.position.loss_sum += loss * len(batches[number])
        context.position.correct += round(correct)
        to_stop |= stop > 0
        if context.on_step is not None:
            rows, epoch = batches[number], context.position.epoch
            context.on_step(StepRecord(epoch, number + 1, rows, loss, correct / len(rows), context.detector))
    unread.clear()
    return to_stop
