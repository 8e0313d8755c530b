"""Meaning of folders' names: class, split, or source.

A name is read as words: CamelCase, digits and punctuation separate them, so `AiArtData` is `ai art data` and `0_real`
is `real`. A source is a generator or a collection: names such as `0_real`, `images`, `2` or `256x256` are not sources.
"""

import re
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path

from data_cards.core.errors import UsageError
from data_cards.core.labels import CLASS_NAMES

Meaning = Mapping[str, str]  # lower-case name to class, as the user declares it: {"0": "real", "1": "fake"}

_SHOWN = 3  # names in an example

_CLASS_WORDS = {
    "real": "real reals photo photos photograph photographs nature natural authentic genuine human camera",
    "fake": "fake fakes ai aigc aigenerated generated synthetic artificial gan deepfake deepfakes diffusion",
}
_SPLIT_WORDS = {
    "train": "train training",
    "val": "val valid validation dev",
    "test": "test testing",
}
# Words of a class that are also names of subjects, of collections or of kinds of generators.
_WEAK = frozenset("photo photos photograph photographs human camera gan deepfake deepfakes diffusion".split())
# Words that may be beside the name of a class or split, as in `fake_images` or `0_real`.
_FILLERS = frozenset("image images img imgs picture pictures pics face faces art data dataset set by made".split())
_MADE = frozenset(
    "generated created made drawn".split()
)  # `human_generated` is real: these words do not count beside `human`
_UNNAMED = frozenset("image images img imgs picture pictures pic pics version versions snapshots".split())
_CONTAINERS = frozenset("data dataset datasets set sets file files archive parts download downloads".split())
# Versions, parts and sizes: 2, v1.0, part_3, 256x256, 512px. A year is not one of them.
_NUMBERED = re.compile(r"(v|ver|version|part|batch|chunk|shard|size)?[\W_]*\d[\d\W_]*(x[\W_]*\d+)?(px)?", re.IGNORECASE)
# Names of folders that are customary beside a set and not part of it.
_ASIDE = frozenset(
    "doc docs sample samples example examples demo demos figure figures fig figs asset assets preview previews "
    "screenshot screenshots thumbnail thumbnails thumbs script scripts notebook notebooks readme logo logos".split()
)
# Folders below a generator in sets of the field: the classes of LSUN and Pascal VOC, and faces.
_OBJECTS = frozenset(
    "aeroplane airplane bedroom bicycle bike bird boat bottle bridge bus car cat chair church classroom conferenceroom "
    "cow deer diningroom diningtable dog face faces frog horse kitchen livingroom motorbike motorcycle person "
    "plane pottedplant restaurant sheep ship sofa tower train truck tvmonitor".split()
)
_GENERATORS = re.compile(
    r"(pro|style|big|star|cycle|gau|attn|giga|proj)gan|stable.?diffusion|sdxl|sd.?[0-9]|midjourney|dall.?e|glide|adm|"
    r"vqdm|wukong|imagen|firefly|flux|ldm|ddpm|ddim|vqgan|kandinsky|pixart",
    re.IGNORECASE,
)
_SERVICE = frozenset(
    "__macosx @eadir @recycle @recently-snapshot @tmp #recycle #snapshot $recycle.bin lost+found __pycache__".split()
) | {"system volume information"}
_SNAPSHOT = re.compile(r"n\d{8}|[0-9a-f]{16,64}")  # a synset of ImageNet; a hash, as download caches have
_YEAR = re.compile(r"(19|20)\d\d")


def match_class(name: str, meaning: Meaning | None = None) -> str | None:
    """Return "real" or "fake" for a folder's name or a label in any of the usual spellings, else None.

    Parameters
    ----------
    name : str, such as `0_real`, `AI_Generated_Images` or `training_fake`
    meaning : classes of names, declared by the user; they override all spellings
    """
    if meaning and name.lower() in meaning:
        return meaning[name.lower()]
    return _match(name, _CLASS_WORDS, _FILLERS | _words_of(_SPLIT_WORDS))


def match_split(name: str) -> str | None:
    """Return "train", "val" or "test" for a folder's name, else None."""
    return _match(name, _SPLIT_WORDS, _FILLERS)


def match_split_of_class(name: str) -> str | None:
    """Return the split in the name of a class folder, such as `training_real`, else None."""
    splits = {match_split(word) for word in _split_words(name)} - {None}
    return splits.pop() if len(splits) == 1 and match_class(name) else None


def is_sure_class(name: str, meaning: Meaning | None = None) -> bool:
    """Return whether a class name is unambiguous, such as `fake`, but not `photos` or `diffusion`."""
    return bool(meaning and name.lower() in meaning) or not set(_split_words(name)) & _WEAK


def is_service(name: str) -> bool:
    """Return whether a folder belongs to a system or program and not to a set: hidden, `@eaDir`, `__MACOSX`."""
    return name.startswith(".") or name.lower() in _SERVICE


def is_aside(name: str) -> bool:
    """Return whether a folder beside those of a set is usually not part of it, such as `docs` or `samples`."""
    return _has_only(name, _ASIDE)


def is_object(name: str) -> bool:
    """Return whether a folder is named after an object, as folders below a generator are: `airplane`, `face`."""
    return "".join(_split_words(name)) in _OBJECTS


def is_generator(name: str) -> bool:
    """Return whether a name contains the name of a well-known generator."""
    return bool(_GENERATORS.search(name))


def names_source(name: str) -> bool:
    """Return whether a folder's name can be a source: not a class, a split, a number or a word for pictures."""
    return not _is_unnamed(name) and not _has_only(name, _CONTAINERS | _UNNAMED)


def find_own_name(root: Path) -> tuple[str, Path]:
    """Find the source of pictures that no folder below `root` names: the name of `root`, or of the nearest above it.

    Parameters
    ----------
    root : absolute Path. Names above it are used only if its own is a class, a split, a version or a word for
        pictures, as in `stargan/0_real`; names of the home folder and above are never used

    Returns
    -------
    name : str
    place : Path, the folder that has it
    """
    if _is_unnamed(root.name):
        home = Path.home()
        for folder in root.parents:
            if folder == home or folder in home.parents:
                break
            # Below a well-known generator, a name such as `airplane` is an object.
            of_generator = is_object(folder.name) and is_generator(folder.parent.name)
            if names_source(folder.name) and not of_generator:
                return folder.name, folder
    return root.name, root


def parse_meaning(declared: Iterable[str]) -> dict[str, str]:
    """Parse declarations of names, `0=real` or `0=real,1=fake`; names are made lower-case.

    Raises
    ------
    UsageError : a declaration is not NAME=CLASS, or a name is declared twice
    """
    meaning: dict[str, str] = {}
    for text in (part for one in declared for part in one.split(",")):
        name, _, label = (part.strip().lower() for part in text.rpartition("="))
        if not name or label not in CLASS_NAMES:
            raise UsageError(f"--meaning {text!r}: expected NAME=real or NAME=fake, such as 0=real,1=fake")
        if meaning.setdefault(name, label) != label:
            raise UsageError(f"--meaning {text!r}: {name} is declared as {meaning[name]} too; give it one class")
    return meaning


def format_meaning(names: Sequence[str], present: Collection[str | None] = ()) -> str:
    """Format an example of the option that declares the classes of unknown names.

    Parameters
    ----------
    names : of folders or labels
    present : classes that other names already have; None is ignored
    """
    lacking = [label for label in CLASS_NAMES if label not in present]
    shown = sorted(names) if all(map(str.isdigit, names)) else names[:_SHOWN]
    guessed = [_guess_class(name) for name in shown]
    if len(names) == len(lacking) == len(CLASS_NAMES):
        known = next(filter(None, guessed), None)
        rest = list(CLASS_NAMES) if known is None else [one for one in CLASS_NAMES if one != known] * 2
        classes = [label or other for label, other in zip(guessed, rest, strict=True)]
        note = "" if known or names[0].isdigit() else ", or the other way round"
    else:
        classes, note = [label or (lacking or CLASS_NAMES)[-1] for label in guessed], ""
        if len(lacking) == len(CLASS_NAMES) and len(set(classes)) == 1 < len(classes) and None in guessed:
            classes[guessed.index(None)] = CLASS_NAMES[0]  # a set needs both classes
    pairs = ",".join(f"{shlex.quote(name)}={label}" for name, label in zip(shown, classes, strict=True))
    return f"--meaning {pairs}{note}"


def _guess_class(name: str) -> str | None:
    """Guess the class of a misspelt name."""
    words = {word: label for label, spellings in _CLASS_WORDS.items() for word in spellings.split() if len(word) > 3}
    close = get_close_matches(name.lower(), words, 1, 0.75)
    return words[close[0]] if close else None


def _is_unnamed(name: str) -> bool:
    if _NUMBERED.fullmatch(name) or _SNAPSHOT.fullmatch(name):
        return not _YEAR.fullmatch(name)
    words = set(_split_words(name))
    of_class = match_class(name) is not None and bool(words - _WEAK - _FILLERS)
    return of_class or match_split(name) is not None or _has_only(name, _UNNAMED)


def _has_only(name: str, words: frozenset[str]) -> bool:
    found = _split_words(name)
    return bool(found) and set(found) <= words


@lru_cache(maxsize=4096)
def _split_words(name: str) -> tuple[str, ...]:
    # CamelCase and digits separate words too: AiArtData, 1_fake.
    return tuple(re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()))


def _words_of(spellings: Mapping[str, str]) -> frozenset[str]:
    return frozenset(" ".join(spellings.values()).split())


def _match(name: str, words: Mapping[str, str], fillers: frozenset[str]) -> str | None:
    tokens = [token for token in _split_words(name) if token not in fillers]
    if "human" in tokens:
        tokens = [token for token in tokens if token not in _MADE]
    joined = "".join(tokens)
    for value, spellings in words.items():
        known = spellings.split()
        if tokens and (all(token in known for token in tokens) or joined in known):
            return value
    return None
