"""Tables of options in the documentation, written from the fields of the settings.

    python docs/make_tables.py

A table is between a comment that names its command, such as `<!-- options of train run -->`, and
`<!-- end of options -->`.
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
    """Return a page with its tables replaced by current ones."""
    return _TABLE.sub(lambda found: f"{found[1]}\n{format_option_tables(*TABLES[found[2]])}\n{found[3]}", text)


def main() -> None:
    """Write the tables of all pages, and print the pages that changed."""
    for file in sorted(DOCS.glob("*.md")):
        text = file.read_text(encoding="utf-8")
        if fill_in(text) != text:
            file.write_text(fill_in(text), encoding="utf-8")
            print(f"{file}: tables written")


if __name__ == "__main__":
    main()
