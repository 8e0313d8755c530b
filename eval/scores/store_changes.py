"""Changes of a run's store since its training, in sentences: what changed, what that means, and what to do."""

from shlex import quote

from data_cards.core.errors import DAMAGE, UserError
from data_cards.core.text import format_count
from pipeline.store.earlier import EarlierStore
from pipeline.store.reader import FeatureStore
from train.run.folder import Run
from train.run.locate import is_starter, name_run


def format_store_changes(run: Run, store: FeatureStore, training: FeatureStore | None) -> list[str]:
    """Format that the store has grown since training, or why the training pictures are unknown; else empty.

    Parameters
    ----------
    store : FeatureStore, which is scored
    training : FeatureStore or None, from `find_training_store`
    """
    if training is None:
        return [
            f"{_explain_unknown(run, store)}; whether it was trained on some of these pictures is not known, and the "
            f"scores may be too good; to be certain, train a run on this store: `{_format_training(store)}`"
        ]
    added = sum(part.added for part in training.parts if isinstance(part, EarlierStore))
    if not added or [part.path for part in training.parts] != [part.path for part in store.parts]:
        return []
    return [
        f"{store.path}: {format_count(added, 'picture')} {'was' if added == 1 else 'were'} added since {name_run(run)} "
        f"was trained, and it was not trained on them; to train on all: `{_format_training(store)}`"
    ]


def _explain_unknown(run: Run, store: FeatureStore) -> str:
    name, paths = name_run(run), " + ".join(run.store_paths)
    if is_starter(run):
        return "the training pictures of the starter run do not come with this program"
    try:
        now = len(run.open_stores().perceptual_hashes)
    except UserError:
        return f"{paths}: this store, which {name} was trained on, cannot be read, and {store.path} is another one"
    before = _count_trained(run)
    counts = f" ({before:,} pictures then, {now:,} now)" if before is not None else ""
    return (
        f"{paths}: since {name} was trained, this store was replaced by one with other pictures, splits or versions of "
        f"the libraries{counts}"
    )


def _count_trained(run: Run) -> int | None:
    """Count the pictures of a run's stores when it was trained; None if its data cards do not say."""
    try:
        return sum(int(card["pictures"]) for card in run.read_cards())
    except (OSError, *DAMAGE):
        return None


def _format_training(store: FeatureStore) -> str:
    return " ".join(["train run", *(f"--store {quote(part.path)}" for part in store.parts)])
