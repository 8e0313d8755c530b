"""Feature settings as plain values: the names of every store of this format, and every field."""

import json
from dataclasses import dataclass

from pipeline.features.settings import FeatureSettings


@dataclass(frozen=True)
class Extended(FeatureSettings):
    """Feature settings with a field that no earlier version has."""

    window: str = "hann"


def test_to_dict_has_the_names_and_order_of_the_format():
    assert json.dumps(FeatureSettings(size=64).to_dict()) == (
        '{"size": 64, "fit": "cover", "resample": "bicubic", "dtype": "uint8", "jpeg_scale": "full", '
        '"estimator": "periodogram", "patch": null, "colour_axis": "separate", "overview": null}'
    )


def test_to_dict_has_a_new_field_after_the_others_and_from_dict_reads_it():
    values = Extended(window="kaiser").to_dict()
    assert list(values) == [*FeatureSettings().to_dict(), "window"]
    assert Extended.from_dict(values) == Extended(window="kaiser")
