"""A picture of a set, and a table that holds pictures column by column.

A million pictures with their facts need a gigabyte as objects, and about 150 MB in columns. The table
creates a picture when it is read. Thumbnails and low-frequency profiles are kept for a bounded
number of pictures, because an audit uses no more.
"""

import heapq
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np

from data_cards.core.labels import CLASS_NAMES, SPLITS, TEST
from data_cards.dataset.layout import PictureFile
from data_cards.dataset.lone_sources import format_lone_sources
from data_cards.image.facts import PictureFacts

FEWEST_AUDITED = 20  # pictures of each class, below which a set is not audited
MOST_THUMBNAILS = 20_000  # pictures that keep thumbnail and profile, half of each class
HASH_BYTES = 32  # bytes of sha256 and of phash
_FILE_WORDS = ("root", "split", "label", "source")
_FACT_WORDS = ("format", "mode", "tables", "subsampling")
_KEPT_WORDS = (*_FACT_WORDS, "unused")
_NUMBERS = {"bytes": "q", "width": "i", "height": "i", "quality": "h", "exif": "b", "camera": "b", "group": "q"}


@dataclass(frozen=True, slots=True)
class Picture:
    """A usable picture of a set: its file, its facts, its near-duplicate group."""

    file: PictureFile
    facts: PictureFacts
    group: int

    def to_dict(self) -> dict:
        """Return plain values, ready for JSON."""
        file = {field.name: getattr(self.file, field.name) for field in fields(PictureFile)}
        return {"file": file, "facts": self.facts.to_dict(), "group": self.group}

    @classmethod
    def from_dict(cls, values: dict) -> "Picture":
        """Create a picture from the values of `to_dict`."""
        return cls(PictureFile(**values["file"]), PictureFacts.from_dict(values["facts"]), values["group"])


def compute_columns(pictures: Iterable[Picture]) -> dict[str, np.ndarray]:
    """Compute an array (N,) of each fact of N pictures: object for words, float64 for numbers.

    One pass, so a million pictures are never in memory as objects.
    """
    numbers = {name: array("d") for name in _NUMBERS if name != "group"}
    words: dict[str, list[str]] = {name: [] for name in ("split", "label", "source", *_FACT_WORDS)}
    for picture in pictures:
        for name, values in numbers.items():
            values.append(getattr(picture.facts, name))
        for name, values in words.items():
            values.append(getattr(picture.file if name in _FILE_WORDS else picture.facts, name))
    arrays = {name: np.array(values, dtype=float) for name, values in numbers.items()}
    return arrays | {name: np.array(values, dtype=object) for name, values in words.items()}


class PictureTable(Sequence[Picture]):
    """Pictures in the order in which they were added."""

    def __init__(self, pictures: Iterable[Picture] = ()):
        self._hashes = bytearray()  # sha256 and phash of each
        self._images = bytearray()  # path of each, concatenated
        self._ends = array("q")  # of each path
        self._numbers = {name: array(kind) for name, kind in _NUMBERS.items()}
        self._words = {name: array("i") for name in (*_FILE_WORDS, *_KEPT_WORDS)}
        self._vocabulary: dict[str, int] = {}
        self._spelled: list[str] = []
        self._thumbnails: dict[int, tuple[bytes, bytes]] = {}
        self._histories: dict[int, bytes] = {}
        for picture in pictures:
            self.add(picture.file, picture.facts, picture.group)

    def add(self, file: PictureFile, facts: PictureFacts, group: int = -1) -> None:
        """Add a picture at the end."""
        if facts.thumbnail or facts.profile:
            self._thumbnails[len(self)] = facts.thumbnail, facts.profile
        if facts.history:
            self._histories[len(self)] = facts.history
        self._hashes += facts.sha256 + facts.phash
        self._images += file.image.encode("utf-8", "surrogatepass")
        self._ends.append(len(self._images))
        for name, column in self._numbers.items():
            column.append(group if name == "group" else getattr(facts, name))
        for names, holder in ((_FILE_WORDS, file), (_KEPT_WORDS, facts)):
            for name in names:
                self._words[name].append(self._intern(getattr(holder, name)))

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index):
        numbers = range(len(self))[index]  # raises IndexError
        return self._read(numbers) if isinstance(numbers, int) else [self._read(number) for number in numbers]

    def __iter__(self) -> Iterator[Picture]:
        return map(self._read, range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(Picture.__eq__, self, other))

    __hash__ = None

    @property
    def groups(self) -> np.ndarray:
        """Near-duplicate groups, int64 (N,)."""
        return np.array(self._numbers["group"], dtype=np.int64)

    @property
    def phashes(self) -> np.ndarray:
        """Perceptual hashes, uint8 (N, 32)."""
        return np.frombuffer(bytes(self._hashes), np.uint8).reshape(-1, 2 * HASH_BYTES)[:, HASH_BYTES:]

    def count_unused(self) -> Counter:
        """Count the pictures by `PictureFacts.unused`."""
        return Counter(self._spelled[number] for number in self._words["unused"])

    def sha256(self, number: int) -> bytes:
        """Return the hash of one picture's file."""
        return bytes(self._hashes[2 * HASH_BYTES * number : 2 * HASH_BYTES * number + HASH_BYTES])

    def set_groups(self, groups: np.ndarray) -> None:
        """Set every picture's near-duplicate group, int (N,)."""
        self._numbers["group"] = array("q", np.asarray(groups, dtype=np.int64).tobytes())

    def set_splits(self, splits: Sequence[str]) -> None:
        """Set every picture's split."""
        self._words["split"] = array("i", map(self._intern, splits))

    def select(self, numbers: Iterable[int]) -> "PictureTable":
        """Return a table of the pictures with these numbers, in this order."""
        chosen = np.fromiter(numbers, np.int64)
        table = PictureTable()
        table._vocabulary, table._spelled = dict(self._vocabulary), list(self._spelled)
        hashes = np.frombuffer(self._hashes, np.uint8).reshape(-1, 2 * HASH_BYTES)
        table._hashes = bytearray(hashes[chosen].tobytes())
        for mine, theirs in ((self._numbers, table._numbers), (self._words, table._words)):
            for name, column in mine.items():
                theirs[name] = array(column.typecode, np.array(column)[chosen].tobytes())
        for new, old in enumerate(chosen.tolist()):
            table._images += self._image(old)
            table._ends.append(len(table._images))
            if old in self._thumbnails:
                table._thumbnails[new] = self._thumbnails[old]
            if old in self._histories:
                table._histories[new] = self._histories[old]
        return table

    def subsample_thumbnails(self, most: int = MOST_THUMBNAILS) -> None:
        """Drop thumbnail and profile of all but `most` pictures, half of each class, those with the lowest hashes.

        This is a fair draw that depends neither on folders nor on order.
        """
        kept = self.draw_fairly(self._thumbnails, most)
        self._thumbnails = {number: self._thumbnails[number] for number in kept}

    def draw_fairly(self, numbers: Iterable[int], most: int) -> list[int]:
        """Draw `most` of these pictures, half of each class, those with the lowest hashes.

        Of equal files all or none are drawn. A draw from a part of a set includes every picture of this part that a
        draw from the whole set includes.
        """
        of_class: dict[str, list[tuple[bytes, int]]] = {label: [] for label in CLASS_NAMES}
        for number in numbers:
            picture = self[number]
            of_class[picture.file.label].append((picture.facts.sha256, number))
        drawn = []
        for own in of_class.values():
            highest = heapq.nsmallest(most // 2, own)[-1][0] if own else b""
            drawn += [number for sha256, number in own if sha256 <= highest]
        return sorted(drawn)

    def set_histories(self, histories: dict[int, bytes]) -> None:
        """Set the histories of the pictures with these numbers, and drop all others."""
        self._histories = dict(histories)

    def _intern(self, word: str) -> int:
        number = self._vocabulary.setdefault(word, len(self._spelled))
        if number == len(self._spelled):
            self._spelled.append(word)
        return number

    def _image(self, number: int) -> bytearray:
        return self._images[self._ends[number - 1] if number else 0 : self._ends[number]]

    def _read(self, number: int) -> Picture:
        image = self._image(number).decode("utf-8", "surrogatepass")
        words = {name: self._spelled[column[number]] for name, column in self._words.items()}
        numbers = {name: column[number] for name, column in self._numbers.items()}
        group = numbers.pop("group")
        numbers |= {name: bool(numbers[name]) for name in ("exif", "camera")}
        hashes = bytes(self._hashes[2 * HASH_BYTES * number : 2 * HASH_BYTES * (number + 1)])
        thumbnail, profile = self._thumbnails.get(number, (b"", b""))
        file = PictureFile(image=image, **{name: words.pop(name) for name in _FILE_WORDS})
        facts = PictureFacts(
            sha256=hashes[:HASH_BYTES],
            phash=hashes[HASH_BYTES:],
            thumbnail=thumbnail,
            profile=profile,
            history=self._histories.get(number, b""),
            **words,
            **numbers,
        )
        return Picture(file, facts, group)


def format_single_sources(pictures: Iterable[Picture]) -> str | None:
    """Format a warning if all training pictures of a class have one source; None without such a class."""
    return format_lone_sources(list_training_sources(pictures))


def list_training_sources(pictures: Iterable[Picture]) -> set[tuple[str, str]]:
    """Return (class, source) of the pictures in the splits `train` and `val`; of all if the set has only `test`."""
    found = {(one.file.split == TEST, one.file.label, one.file.source) for one in pictures}
    return {key[1:] for key in found if not key[0]} or {key[1:] for key in found}


def count_sources(sources: Iterable[tuple[str, str, str]]) -> list[dict]:
    """Count the pictures of each (split, class, source), as plain values in the order of splits."""
    counts = Counter(sources)
    return [
        {"split": split, "class": label, "source": source, "pictures": counts[split, label, source]}
        for split, label, source in sorted(counts, key=lambda key: (SPLITS.index(key[0]), key[1:]))
    ]
