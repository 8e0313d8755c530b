"""Schema of a feature store: its version, and the names of its arrays, attributes and columns.

A store is one Zarr v3 group; docs/store.md describes it for users. `features` is uint8 (N, planes, H, W), in levels,
with a row for each sample (a picture's variant). `profiles` is float32 (N, 755), the profile of each sample
(`pipeline.features.profiles`). Both are stored in shards of the same rows. Each column (`SAMPLE_COLUMNS`) is an array
of length N. `statistics/mean` and `statistics/std` are float32 (planes, H, W), in levels, of the training rows. `plane`
and `class` hold the names of planes and classes, and `checksums` the checksum of every shard's files
(`pipeline.store.checksum`). Attributes hold the format version, the settings, their fingerprint, the class names,
`complete`, and digests of all other files (`pipeline.store.digests`).

Format version 2 has no profiles. Versions 2 and 3 have no `plane` and `class`, and give several axes one name
(`pipeline.store.arrays.name_dimensions`). A store keeps its version when it grows or is repaired.
"""

from collections.abc import Sequence

from data_cards.core.labels import CLASS_NAMES
from data_cards.image.jpeg import NO_QUALITY

FORMAT_VERSION = 4
READ_VERSIONS = (2, 3, FORMAT_VERSION)
DEFAULT_STORE = "features.zarr"  # where commands write and read a store by default
# A store without planes cannot get any, so it takes another name.
BUILD_PLANES = "`pipeline build --src FOLDER --size 1024 --out planes.zarr`"

# Arrays and groups, beside the columns.
FEATURES = "features"
PROFILES = "profiles"
CHECKSUMS = "checksums"
PROVENANCE = "provenance"  # the pictures: gzipped JSON lines as bytes
CARD = "card"  # the data card: JSON as bytes
STATISTICS = "statistics"  # group of the two below
MEAN, STD = f"{STATISTICS}/mean", f"{STATISTICS}/std"
# Coordinates for xarray: text arrays named as their only axis; format versions 2 and 3 lack them.
PLANE_COORDINATE = "plane"
CLASS_COORDINATE = "class"


class Attribute:
    """Names of the attributes of a store's group."""

    FORMAT_VERSION = "format_version"
    SETTINGS = "settings"
    VERSIONS = "versions"  # of the libraries that decide the features
    PROGRAM = "program"  # version of this program
    FINGERPRINT = "fingerprint"
    CLASS_NAMES = "class_names"
    PLANES = "planes"
    ROOTS = "roots"
    SET_ASIDE = "set_aside"
    SIMULATED = "simulated"
    COMPLETE = "complete"
    ARRAYS = "arrays"  # digest of each array and group
    DIGEST = "digest"  # of all other attributes


# Per-sample columns: Zarr data type and meaning of the values.
SAMPLE_COLUMNS = {
    "label": ("uint8", "index into the attribute class_names: 0 real, 1 fake"),
    "split": ("string", "train, val or test"),
    "source": ("string", "the collection or generator that the picture came from"),
    "root": ("uint16", "index into the attribute roots: the folder that `image` is relative to"),
    "image": ("string", "the picture file, relative to its root, with forward slashes"),
    "sha256": ("string", "of the picture file, hexadecimal"),
    "picture": ("int32", "number of the picture; all variants of one picture share it"),
    "group": ("int32", "number of the near-duplicate group; never on two sides of a drawn split"),
    "variant": ("string", "name of the variant, such as clean or jpeg-1"),
    "parameters": ("string", "the variant's drawn parameters, as JSON"),
    "jpeg_quality": ("int16", f"JPEG quality drawn for the variant; {NO_QUALITY} where none was"),
    "format": ("string", "format of the picture file, such as JPEG or PNG"),
    "width": ("int32", "of the picture file as stored, in pixels"),
    "height": ("int32", "of the picture file as stored, in pixels"),
    "bytes": ("int64", "size of the picture file"),
    "file_quality": ("int16", f"JPEG quality estimated from the file's tables; {NO_QUALITY} for other formats"),
    "scale": ("float32", "resampling factor of the short side; above 1 it was upsampled"),
}


def list_shard_arrays(planes: Sequence[str], format_version: int) -> tuple[str, ...]:
    """List the arrays whose files make a shard, in the order of their checksums.

    Parameters
    ----------
    planes : sequence of str, names of the planes; empty for a store without
    format_version : int
    """
    return (FEATURES,) * bool(planes) + (PROFILES,) * (format_version > 2)


def list_coordinates(planes: Sequence[str], format_version: int) -> dict[str, tuple[str, ...]]:
    """Return the coordinate arrays of a store, by name, and their values.

    Parameters
    ----------
    planes : sequence of str, names of the planes; empty for a store without
    format_version : int
    """
    if format_version < 4:
        return {}
    return {CLASS_COORDINATE: CLASS_NAMES} | ({PLANE_COORDINATE: tuple(planes)} if planes else {})
