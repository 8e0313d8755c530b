"""Write the options' tables of the documentation, from the fields that the commands' options are made of.

    python docs/make_tables.py

A table stands between a comment that names it, such as `<!-- options of train run -->`, and `<!-- end of options -->`.
"""

import re
from pathlib import Path

from data_cards.core.options import format_option_tables
from data_cards.dataset.settings import SetSettings
from eval.settings import PageSettings, PredictSettings, ReportSettings
from pipeline.features.settings import FeatureSettings
from pipeline.store.settings import BuildSettings
from train.settings import TrainSettings

DOCS = Path(__file__).parent
TABLES = {
    "pipeline build": (SetSettings, FeatureSettings, BuildSettings),
    "train run": (TrainSettings,),
    "eval report": (ReportSettings,),
    "eval predict": (PredictSettings,),
    "eval page": (PageSettings,),
}
_TABLE = re.compile(r"(<!-- options of ([a-z ]+) -->\n).*?(<!-- end of options -->\n)", re.DOTALL)


def fill_in(text: str) -> str:
    """A document with its tables made anew."""
    return _TABLE.sub(lambda found: f"{found[1]}\n{format_option_tables(*TABLES[found[2]])}\n{found[3]}", text)


def main() -> None:
    """Write them all."""
    for file in sorted(DOCS.glob("*.md")):
        text = file.read_text(encoding="utf-8")
        if fill_in(text) != text:
            file.write_text(fill_in(text), encoding="utf-8")
            print(f"{file}: tables written")


if __name__ == "__main__":
    main()
