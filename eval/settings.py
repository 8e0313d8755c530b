"""Options of eval's commands and their defaults. Imports no PyTorch, so that `--help` need not wait for it."""

from dataclasses import dataclass

from data_cards.core.errors import UsageError
from data_cards.core.options import option_field
from train.settings import DEVICES

HELD_OUT = "held-out"  # in place of a split: the sources that a run left out
EXPLAIN_PICTURES = 40  # of the occlusion study, by default

# Of `eval predict`.
BATCH_SIZE = 16  # samples that the network scores at a time
FRAMES = 8  # of a clip that are judged

# Of `eval page`.
HOST, PORT = "127.0.0.1", 8123

_SCORING = "Scoring"


@dataclass(frozen=True)
class ReportSettings:
    """How a report, or a comparison of runs, is computed."""

    device: str = option_field("auto", group=_SCORING, choices=DEVICES, help="Where to run.")
    batch_size: int = option_field(32, group=_SCORING, help="Samples scored at a time.")
    threads: int = option_field(4, group=_SCORING, help="Threads that read the store.")
    swap_pictures: int = option_field(
        200,
        group=_SCORING,
        help="Maximum number of pictures of the JPEG-swap test, in which both classes are saved alike; 0 skips it.",
    )
    explain_pictures: int | None = option_field(
        None,
        group=_SCORING,
        shown=str(EXPLAIN_PICTURES),
        help="Maximum number of pictures on which it is measured which frequencies decide, the slowest part; of one "
        "run only; 0 skips it.",
    )

    def __post_init__(self) -> None:
        for name, least in (("batch_size", 1), ("threads", 1), ("swap_pictures", 0), ("explain_pictures", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UsageError(f"{name.replace('_', ' ')} {value}: expected at least {least}")
