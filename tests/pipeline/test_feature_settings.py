"""Feature settings: what is left out follows from the rest; as plain values they have the names of every store."""

import json
from dataclasses import dataclass

import pytest

from data_cards.core.errors import UsageError
from pipeline.features.settings import FeatureSettings
from pipeline.store.settings import BuildSettings


@dataclass(frozen=True)
class Extended(FeatureSettings):
    """Feature settings with a field that no earlier version has."""

    window: str = "hann"


def test_to_dict_has_the_names_and_order_of_the_format():
    expected = (
        '{"size": 64, "fit": "cover", "resample": "bicubic", "dtype": "uint8", "jpeg_scale": "full", '
        '"estimator": "periodogram", "patch": null, "colour_axis": "separate", "overview": null}'
    )
    assert json.dumps(FeatureSettings(size=64, levels="fine").to_dict()) == expected
    assert json.dumps(FeatureSettings(size=64).to_dict()) == expected.replace("}", ', "levels": "coarse-2"}')


def test_to_dict_has_a_new_field_after_the_others_and_from_dict_reads_it():
    values = Extended(window="kaiser").to_dict()
    assert list(values) == [*FeatureSettings().to_dict(), "window"]
    assert Extended.from_dict(values) == Extended(window="kaiser")


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        pytest.param({}, ("none", None, None, None, None), id="nothing"),
        pytest.param({"overview": 0}, ("none", None, None, None, None), id="no overview"),
        pytest.param({"size": 1024}, ("periodogram", 1024, "cover", None, None), id="planes of a size"),
        pytest.param({"estimator": "periodogram"}, ("periodogram", 1024, "cover", None, None), id="one transform"),
        pytest.param({"estimator": "averaged"}, ("averaged", 512, "crop", 32, None), id="averaged"),
        pytest.param({"size": 256, "patch": 64}, ("averaged", 256, "crop", 64, None), id="patches of a square"),
        pytest.param({"overview": 64}, ("averaged", 512, "crop", 32, 64), id="an overview"),
        pytest.param({"estimator": "averaged", "fit": "cover"}, ("averaged", 512, "cover", 32, None), id="a fit"),
        pytest.param({"size": 96, "fit": "crop"}, ("periodogram", 96, "crop", None, None), id="a size and a fit"),
    ],
)
def test_settings_left_out_follow_from_the_others(asked, expected):
    found = FeatureSettings(**asked)
    assert (found.estimator, found.size, found.fit, found.patch, found.overview) == expected
    assert BuildSettings(found).variants == "views"
    assert FeatureSettings.from_dict(found.to_dict()) == found


@pytest.mark.parametrize("named", [{}, {"estimator": "none"}], ids=["by default", "named"])
@pytest.mark.parametrize("asked", [{"fit": "crop"}, {"resample": "box"}], ids=str)
def test_what_only_planes_have_is_refused_without_planes(named, asked):
    with pytest.raises(UsageError, match=r"only planes have it.*--estimator averaged or periodogram"):
        FeatureSettings(**named, **asked)


@pytest.mark.parametrize("asked", [{"size": 64}, {"patch": 32}, {"overview": 64}], ids=str)
def test_no_planes_and_planes_are_refused_together(asked):
    with pytest.raises(UsageError, match="only planes have it"):
        FeatureSettings(estimator="none", **asked)
    assert BuildSettings(FeatureSettings(**asked), packing="none").packing == "none"
    with pytest.raises(UsageError, match="packing none: only planes are packed"):
        BuildSettings(packing="none")
