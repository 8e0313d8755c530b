"""Options of eval's commands and their defaults. Imports no PyTorch, so that `--help` need not wait for it."""

from dataclasses import dataclass

from data_cards.core.errors import UsageError
from data_cards.core.options import option_field
from data_cards.core.value_types import convert_fields
from pipeline.features.settings import MAX_PIXELS
from train.settings import DEVICES, SCORING_BATCH_SIZE, TrainSettings

HELD_OUT = "held-out"  # in place of a split: the sources that a run left out
EXPLAIN_PICTURES = 40  # of the occlusion study, by default

_SCORING, _PAGE = "Scoring", "Page"


@dataclass(frozen=True)
class _DeviceSettings:
    device: str = option_field(TrainSettings.device, group=_SCORING, choices=DEVICES, help="Device to score on.")


@dataclass(frozen=True)
class _JudgingSettings(_DeviceSettings):
    max_pixels: int | None = option_field(
        None,
        group=_SCORING,
        shown=f"that of the run's store, usually {MAX_PIXELS // 10**6} megapixels",
        help="Maximum number of pixels of a picture that is judged; decoding takes about 10 bytes of memory per pixel.",
    )

    def __post_init__(self) -> None:
        convert_fields(self)
        if self.max_pixels is not None and self.max_pixels < 1:
            raise UsageError(f"max pixels {self.max_pixels}: expected at least 1")


@dataclass(frozen=True)
class PredictSettings(_JudgingSettings):
    """Options of `predict`."""

    workers: int | None = option_field(
        None,
        group=_SCORING,
        shown="one per core",
        help="Maximum number of processes that read files. With 1, or with few files, no process is started.",
    )
    batch_size: int = option_field(16, group=_SCORING, help="Samples that the network scores at a time.")
    frames: int = option_field(8, group=_SCORING, help="Frames of a clip to judge, evenly spaced.")


@dataclass(frozen=True)
class PageSettings(_JudgingSettings):
    """Options of `page`."""

    host: str = option_field(
        "127.0.0.1",
        group=_PAGE,
        help="Address to listen on. If it is not loopback, other computers can connect too, with a token.",
    )
    port: int = option_field(8123, group=_PAGE, help="Port to listen on; 0 chooses a free one.")


@dataclass(frozen=True)
class ReportSettings(_DeviceSettings):
    """Options of a report or of a comparison of runs."""

    batch_size: int = option_field(SCORING_BATCH_SIZE, group=_SCORING, help="Samples scored at a time.")
    threads: int = option_field(4, group=_SCORING, help="Threads that read the store.")
    swap_pictures: int = option_field(
        200,
        group=_SCORING,
        help="Maximum number of pictures of the JPEG-swap test, which saves both classes as JPEG; 0 skips it.",
    )
    explain_pictures: int | None = option_field(
        None,
        group=_SCORING,
        shown=str(EXPLAIN_PICTURES),
        help="Maximum number of pictures on which the network is scored without each band of frequencies, the slowest "
        "part of a report; not in comparisons; 0 skips it.",
    )

    def __post_init__(self) -> None:
        convert_fields(self)
        for name, least in (("batch_size", 1), ("threads", 1), ("swap_pictures", 0), ("explain_pictures", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UsageError(f"{name.replace('_', ' ')} {value}: expected at least {least}")
