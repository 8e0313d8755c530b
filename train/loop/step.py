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
from train.data.sampling import draw_epoch, draw_seed, split_batches
from train.loop.context import StepRecord, Training, describe_loss, describe_stop, note_skipped, save
from train.loop.resume_state import Position
from train.recipe.optimizer import learning_rate, set_learning_rate
from train.recipe.vrex import weigh_samples

# Reading a loss makes the computer wait for the GPU, so there they are read a few steps at a time.
_STEPS_BETWEEN_READINGS = 20


def draw_batches(training: Training) -> list[np.ndarray]:
    """Rows of every step of the current epoch."""
    settings, rows = training.settings, training.rows
    order = draw_epoch(
        rows.train,
        rows.train_pictures,
        settings.seed,
        training.position.epoch,
        settings.variants_per_epoch,
        rows.strata,
    )
    return split_batches(order, settings.batch_size)


def train_epoch(training: Training, batches: list[np.ndarray]) -> None:
    """Take the steps of the epoch that are not done yet."""
    settings, position = training.settings, training.position
    skipped = set(position.skipped) if settings.on_bad_sample == "skip" else None
    reading = training.reader.read([training.team.part(rows) for rows in batches[position.batch :]], skipped)
    alone = training.team.size == 1
    every = 1 if training.device.type == "cpu" or training.on_step else _STEPS_BETWEEN_READINGS
    unread: list[tuple[int, torch.Tensor]] = []
    begun = saved = time.monotonic()
    seconds_before = position.seconds
    bar = progress(what=f"epoch {position.epoch}/{settings.epochs}", unit="samples", total=sum(map(len, batches)))
    bar.leave = False  # the epoch's line takes its place
    bar.n = bar.initial = position.seen  # of a resumed epoch, for a true rate
    training.detector.train()
    with bar, closing(reading):
        for levels in _time_waiting(position, move_batches(reading, training.device)):
            rows = batches[position.batch]
            if alone:  # the others would have to hear of it
                levels, rows = _leave_out(training, levels, rows, skipped)
                batches[position.batch] = rows
            step = (position.epoch - 1) * len(batches) + position.batch
            set_learning_rate(training.optimiser, learning_rate(step, len(batches), settings))
            if len(rows) > 1:  # batch normalisation needs two
                unread.append((position.batch, take_step(training, levels, rows, step)))
                position.seen += len(rows)
            position.batch += 1
            bar.update(len(rows))
            now = time.monotonic()
            position.seconds = seconds_before + now - begun
            to_save = now - saved > 60 * settings.save_minutes
            # The processes of a team read their sums, and so hear of a stop, after the same steps.
            at_once = alone and (to_save or training.stop.received is not None)
            if len(unread) >= every or position.batch == len(batches) or at_once:
                to_stop = _read_sums(training, batches, unread)
                to_stop |= alone and training.stop.received is not None
                bar.set_postfix(loss=f"{position.loss_sum / max(position.seen, 1):.3f}", refresh=False)
                if to_save or to_stop:
                    save(training)
                    saved = now
                if to_stop:
                    done = f"after {position.batch} of {len(batches)} steps"
                    raise describe_stop(training, f"in epoch {position.epoch}, {done}")


def _time_waiting(position: Position, batches: Iterator[torch.Tensor]) -> Iterator[torch.Tensor]:
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


def _leave_out(
    training: Training, levels: torch.Tensor, rows: np.ndarray, skipped: set[int] | None
) -> tuple[torch.Tensor, np.ndarray]:
    """The batch without its unreadable rows; each of them is noted and told of once."""
    if not skipped:
        return levels, rows
    kept = ~np.isin(rows, sorted(skipped))
    note_skipped(training, rows[~kept])
    return (levels, rows) if kept.all() else (levels[torch.from_numpy(kept).to(levels.device)], rows[kept])


def take_step(training: Training, levels: torch.Tensor, rows: np.ndarray, step: int) -> torch.Tensor:
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
    team = training.team
    # Dropout is seeded by step and process: a resumed run draws what an uninterrupted one would have.
    torch.manual_seed(draw_seed(training.settings.seed, step * team.size + team.rank))
    labels = torch.from_numpy(training.labels[team.part(rows)]).to(training.device)
    draws = training.augmenter.draw(step, len(rows), team)
    values = training.augmenter.change_values(training.detector.normalise(levels), draws)
    with torch.autocast(training.device.type, dtype=torch.bfloat16, enabled=training.precision == torch.bfloat16):
        logits = training.network(values)
    logits = logits.float()
    losses = training.augmenter.losses(logits, labels, draws)
    loss = weighed = losses.mean()
    if penalty := training.settings.source_penalty:
        sources = torch.from_numpy(training.sources[team.part(rows)]).to(training.device)
        weighed = (losses * weigh_samples(losses, sources, int(training.sources.max()) + 1, penalty, team)).mean()
    training.optimiser.zero_grad(set_to_none=True)
    # The team takes the mean of the parts' gradients, so each counts by its samples.
    (weighed * (len(labels) * team.size / len(rows))).backward()
    training.optimiser.step()
    stop = torch.full_like(loss, training.stop.received is not None)
    return team.add(torch.stack([loss.detach() * (len(labels) / len(rows)), (logits.argmax(1) == labels).sum(), stop]))


def _read_sums(training: Training, batches: list[np.ndarray], unread: list[tuple[int, torch.Tensor]]) -> bool:
    """Add the losses of the last steps to the sums and tell `on_step`; a loss that is not finite ends the run.

    Returns
    -------
    whether a process of the team was asked to stop
    """
    to_stop = False
    for number, sums in unread:
        loss, correct, stop = sums.tolist()
        if not math.isfinite(loss):
            raise describe_loss(training, loss, f"step {number + 1}", batches[number])
        training.position.loss_sum += loss * len(batches[number])
        training.position.correct += round(correct)
        to_stop |= stop > 0
        if training.on_step is not None:
            rows, epoch = batches[number], training.position.epoch
            training.on_step(StepRecord(epoch, number + 1, rows, loss, correct / len(rows), training.detector))
    unread.clear()
    return to_stop
