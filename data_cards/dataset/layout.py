"""The layout of a set of pictures: split, class and source by the names of its folders.

Recognised are Kaggle's layout SPLIT/CLASS/[SOURCE/]..., CLASS/SPLIT/[SOURCE/]... and
CLASS/[SOURCE/]..., also below folders that contain only one other folder, and
`[SPLIT/]CLASS=FOLDER`, which makes one source of all pictures below a folder.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from data_cards.core.errors import UserError
from data_cards.core.files import PARTIAL, ZARR_METADATA
from data_cards.core.labels import TRAIN
from data_cards.image.signature import SUFFIXES

_CLASS_WORDS = {
    "real": "real reals photo photos photograph photographs nature natural authentic genuine human camera",
    "fake": "fake fakes ai aigc generated synthetic artificial gan deepfake deepfakes diffusion",
}
_SPLIT_WORDS = {
    "train": "train training",
    "val": "val valid validation dev",
    "test": "test testing",
}
_STORES = (".zarr", PARTIAL)  # endings of the names of stores, by custom, and of unfinished ones
# Words that may be beside the name of a class or split, as in `fake_images` or `0_real`.
_FILLERS = frozenset("image images img imgs picture pictures pics face faces art data dataset set by made".split())


@dataclass(frozen=True, slots=True)
class PictureFile:
    """A file with a picture's suffix. `image` is relative to `root` (absolute), with forward slashes."""

    root: str
    image: str
    split: str
    label: str
    source: str

    @property
    def path(self) -> Path:
        return Path(self.root, self.image)


def is_unicode(name: str) -> bool:
    """Return whether a file's name is text; in names of another encoding than the system's Python puts surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def escape_undecodable(name: str) -> str:
    """Escape the bytes of a file's name that are not text, as in caf\\xe9.jpg, to print and store it."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def match_class(name: str) -> str | None:
    """Return "real" or "fake" for a folder's name in any of the usual spellings, else None."""
    return _match(name, _CLASS_WORDS)


def match_split(name: str) -> str | None:
    """Return "train", "val" or "test" for a folder's name, else None."""
    return _match(name, _SPLIT_WORDS)


def find_pictures(src: str) -> list[PictureFile]:
    """Find all files below one `--src` that have a picture's suffix, sorted by path.

    Raises
    ------
    UserError : the folder is missing or empty, or the names of its folders are not recognised
    """
    spec, _, folder = src.partition("=")
    split, _, name = spec.rpartition("/")
    label = match_class(name)
    if folder and label and (not split or match_split(split)):
        root = _resolve_folder(folder)
        pictures = list(_walk_files(root, root, match_split(split) or TRAIN, label, root.name))
    else:
        root = _resolve_folder(src)
        pictures = list(_walk_layout(root))
    if not pictures:
        raise UserError(f"{root}: contains no picture files ({', '.join(sorted(SUFFIXES)[:12])}, ...)")
    return sorted(pictures, key=lambda picture: picture.image)


def _walk_layout(root: Path) -> Iterator[PictureFile]:
    top = _skip_wrappers(root)
    splits = {folder: match_split(folder.name) for folder in _list_folders(top)}
    if any(splits.values()):
        if unknown := [folder for folder, split in splits.items() if split is None]:
            raise _unknown_folders_error(top, unknown, "split", "train, val or test")
        for folder, split in splits.items():
            yield from _walk_classes(root, _skip_wrappers(folder), split)
    else:
        yield from _walk_classes(root, top, None)


def _walk_classes(root: Path, parent: Path, split: str | None) -> Iterator[PictureFile]:
    classes = {folder: match_class(folder.name) for folder in _list_folders(parent)}
    unknown = [folder for folder, label in classes.items() if label is None]
    if unknown or not classes:
        raise _unknown_folders_error(parent, unknown, "class", "real and fake (or photo, ai, generated, ...)")
    for folder, label in classes.items():
        inner = {split_folder: match_split(split_folder.name) for split_folder in _list_folders(folder)}
        if split is None and inner and all(inner.values()):
            for split_folder, inner_split in inner.items():
                yield from _walk_sources(root, split_folder, inner_split, label)
        else:
            yield from _walk_sources(root, folder, split or TRAIN, label)


def _walk_sources(root: Path, folder: Path, split: str, label: str) -> Iterator[PictureFile]:
    own = root.name  # the source of pictures that are not in a folder of a source
    yield from _walk_files(root, folder, split, label, own, recurse=False)
    for source in _list_folders(folder):
        # A class folder inside a folder of its name (RealArt/RealArt), as some archives unpack, is not a source.
        name = own if source.name == folder.name else source.name
        yield from _walk_files(root, source, split, label, name)


def _walk_files(
    root: Path, folder: Path, split: str, label: str, source: str, recurse: bool = True
) -> Iterator[PictureFile]:
    for file in _list_files(folder, recurse):
        yield PictureFile(str(root), file.relative_to(root).as_posix(), split, label, source)


def _list_files(folder: Path, recurse: bool) -> Iterator[Path]:
    seen = set()
    for parent, folders, names in os.walk(folder, followlinks=True, onerror=_raise_unreadable):
        # A link to a folder above would be followed for ever.
        folders[:] = sorted(name for name in folders if not _is_to_skip(Path(parent, name))) if recurse else []
        real = os.path.realpath(parent)
        if real in seen:
            folders[:] = []
            continue
        seen.add(real)
        for name in sorted(names):
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES:
                yield Path(parent, name)


def _raise_unreadable(error: OSError) -> None:
    raise UserError(f"{error.filename}: cannot be read ({error.strerror}); change its permissions") from error


def _list_folders(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not _is_to_skip(entry))
    except OSError as error:
        _raise_unreadable(error)


def _skip_wrappers(folder: Path) -> Path:
    """Descend through folders that contain only one folder, as unpacked archives often have."""
    while True:
        inner = _list_folders(folder)
        if len(inner) != 1 or match_split(inner[0].name) or any(_list_files(folder, recurse=False)):
            return folder
        # A lone folder whose own name matches a class (photos/) may still contain the whole set.
        deeper = any(match_split(one.name) or match_class(one.name) for one in _list_folders(inner[0]))
        if match_class(inner[0].name) and not deeper:
            return folder
        folder = inner[0]


def _unknown_folders_error(parent: Path, unknown: list[Path], what: str, expected: str) -> UserError:
    if unknown:
        names = [folder.name for folder in unknown]
        found = "found " + ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
    else:
        found = "found pictures, but no folders" if any(_list_files(parent, recurse=False)) else "found no folders"
    return UserError(
        f"{parent}: {found}; expected {what} folders named {expected}. Rename them, or give each folder "
        "a class of its own: --src real=FOLDER --src fake=FOLDER"
    )


def _resolve_folder(name: str) -> Path:
    path = Path(os.path.abspath(name))
    if not is_unicode(str(path)):
        raise UserError(f"{escape_undecodable(str(path))}: its name is not UTF-8; rename the folder")
    if not path.exists():
        raise UserError(f"{name}: no such folder; --src takes a folder of pictures, or real=FOLDER, fake=FOLDER")
    if not path.is_dir():
        raise UserError(f"{name}: is a file; --src takes a folder of pictures")
    return path


def _is_to_skip(folder: Path) -> bool:
    """Return whether a folder is hidden, or a feature store that was built among the pictures."""
    name = folder.name
    return name.startswith(".") or name == "__MACOSX" or name.endswith(_STORES) or Path(folder, ZARR_METADATA).exists()


def _match(name: str, words: dict[str, str]) -> str | None:
    # CamelCase and digits separate words too: AiArtData, 1_fake.
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    tokens = [token for token in re.findall(r"[a-z]+", spaced.lower()) if token not in _FILLERS]
    joined = "".join(tokens)
    for value, spellings in words.items():
        known = spellings.split()
        if tokens and (all(token in known for token in tokens) or joined in known):
            return value
    return None
