"""A picture of a set, and many of them held column by column.

As objects a million pictures with their facts take a gigabyte; in columns some 150 MB. A table
makes a picture when it is asked for one. What a picture looks like (thumbnail and low frequencies)
is kept of a bounded number of them: an audit looks at no more.
"""

import heapq
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np

from data_cards.core.labels import CLASS_NAMES, SPLITS
from data_cards.dataset.layout import PictureFile
from data_cards.image.facts import PictureFacts

MOST_THUMBNAILS = 20_000  # pictures that keep thumbnail and profile, half of them of each class
_HASH = 32  # bytes of sha256 and of phash
_FILE_WORDS = ("root", "split", "label", "source")
_FACT_WORDS = ("format", "mode", "tables", "subsampling")
_NUMBERS = {"bytes": "q", "width": "i", "height": "i", "quality": "h", "exif": "b", "camera": "b", "group": "q"}


@dataclass(frozen=True, slots=True)
class Picture:
    """A usable picture of a set: where it is, what it is, its near-duplicate group."""

    file: PictureFile
    facts: PictureFacts
    group: int

    def to_dict(self) -> dict:
        """Plain values, ready for JSON."""
        file = {field.name: getattr(self.file, field.name) for field in fields(PictureFile)}
        return {"file": file, "facts": self.facts.to_dict(), "group": self.group}

    @classmethod
    def from_dict(cls, values: dict) -> "Picture":
        """The inverse of `to_dict`."""
        return cls(PictureFile(**values["file"]), PictureFacts.from_dict(values["facts"]), values["group"])


def compute_columns(pictures: Iterable[Picture]) -> dict[str, np.ndarray]:
    """What is known of pictures, an array (N,) a property: words as objects, all else as float64.

    In one pass, and without holding a million pictures as objects.
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
        self._images = bytearray()  # their names, one behind the other
        self._ends = array("q")  # of each name
        self._numbers = {name: array(kind) for name, kind in _NUMBERS.items()}
        self._words = {name: array("i") for name in (*_FILE_WORDS, *_FACT_WORDS)}
        self._vocabulary: dict[str, int] = {}
        self._spelled: list[str] = []
        self._thumbnails: dict[int, tuple[bytes, bytes]] = {}
        for picture in pictures:
            self.add(picture.file, picture.facts, picture.group)

    def add(self, file: PictureFile, facts: PictureFacts, group: int = -1) -> None:
        """Add a picture at the end."""
        if facts.thumbnail or facts.profile:
            self._thumbnails[len(self)] = facts.thumbnail, facts.profile
        self._hashes += facts.sha256 + facts.phash
        self._images += file.image.encode("utf-8", "surrogatepass")
        self._ends.append(len(self._images))
        for name, column in self._numbers.items():
            column.append(group if name == "group" else getattr(facts, name))
        for names, holder in ((_FILE_WORDS, file), (_FACT_WORDS, facts)):
            for name in names:
                self._words[name].append(self._number(getattr(holder, name)))

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self._make(number) for number in range(*index.indices(len(self)))]
        number = index + len(self) if index < 0 else index
        if not 0 <= number < len(self):
            raise IndexError(f"picture {index} of {len(self)}")
        return self._make(number)

    def __iter__(self) -> Iterator[Picture]:
        return map(self._make, range(len(self)))

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
        return np.frombuffer(bytes(self._hashes), np.uint8).reshape(-1, 2 * _HASH)[:, _HASH:]

    def set_groups(self, groups: np.ndarray) -> None:
        """Set every picture's near-duplicate group, int (N,)."""
        self._numbers["group"] = array("q", np.asarray(groups, dtype=np.int64).tobytes())

    def set_splits(self, splits: Sequence[str]) -> None:
        """Set every picture's split."""
        self._words["split"] = array("i", [self._number(split) for split in splits])

    def take(self, numbers: Iterable[int]) -> "PictureTable":
        """A table of the pictures with these numbers, in that order."""
        return PictureTable(map(self._make, numbers))

    def subsample_thumbnails(self, most: int = MOST_THUMBNAILS) -> None:
        """Drop thumbnail and profile of all but `most` pictures, half of them of each class.

        Those with the lowest hashes keep theirs: a fair draw, and the same wherever they lie and in whatever
        order they are found.
        """
        of_class: dict[str, list[tuple[bytes, int]]] = {label: [] for label in CLASS_NAMES}
        for number in self._thumbnails:
            picture = self[number]
            of_class[picture.file.label].append((picture.facts.sha256, number))
        for own in of_class.values():
            if len(own) > most // 2:
                highest = heapq.nsmallest(most // 2, own)[-1][0]
                for sha256, number in own:
                    if sha256 > highest:
                        del self._thumbnails[number]

    def _number(self, word: str) -> int:
        number = self._vocabulary.setdefault(word, len(self._spelled))
        if number == len(self._spelled):
            self._spelled.append(word)
        return number

    def _make(self, number: int) -> Picture:
        start = self._ends[number - 1] if number else 0
        image = self._images[start : self._ends[number]].decode("utf-8", "surrogatepass")
        spell, words, numbers = self._spelled, self._words, self._numbers
        thumbnail, profile = self._thumbnails.get(number, (b"", b""))
        place = 2 * _HASH * number
        file = PictureFile(
            spell[words["root"][number]],
            image,
            spell[words["split"][number]],
            spell[words["label"][number]],
            spell[words["source"][number]],
        )
        facts = PictureFacts(
            sha256=bytes(self._hashes[place : place + _HASH]),
            bytes=numbers["bytes"][number],
            format=spell[words["format"][number]],
            width=numbers["width"][number],
            height=numbers["height"][number],
            quality=numbers["quality"][number],
            phash=bytes(self._hashes[place + _HASH : place + 2 * _HASH]),
            mode=spell[words["mode"][number]],
            tables=spell[words["tables"][number]],
            subsampling=spell[words["subsampling"][number]],
            exif=bool(numbers["exif"][number]),
            camera=bool(numbers["camera"][number]),
            thumbnail=thumbnail,
            profile=profile,
        )
        return Picture(file, facts, numbers["group"][number])


def count_sources(sources: Iterable[tuple[str, str, str]]) -> list[dict]:
    """How often each (split, class, source) comes up, as plain values in the order of splits."""
    counts = Counter(sources)
    return [
        {"split": split, "class": label, "source": source, "pictures": counts[split, label, source]}
        for split, label, source in sorted(counts, key=lambda key: (SPLITS.index(key[0]), key[1:]))
    ]
