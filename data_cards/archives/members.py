"""The members of an archive by name: the name of each, and the numbers that locate its bytes.

They are kept in columns, because a million members as objects take a gigabyte in every worker process.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence


class Members(Sequence[str]):
    """Names of the files in an archive, sorted, each once, with a row of whole numbers for each.

    Parameters
    ----------
    entries : iterable of (name, numbers); names as `normalise_name` returns them. The last of equal names is used,
        as when an archive is unpacked
    width : int, numbers of each entry
    """

    def __init__(self, entries: Iterable[tuple[str, Sequence[int]]], width: int):
        self._text, self._ends = bytearray(), array("q")
        self._numbers = array("q")
        self._width = width
        for name, numbers in sorted((_encode(name), numbers) for name, numbers in dict(entries).items()):
            self._text += name
            self._ends.append(len(self._text))
            self._numbers.extend(numbers)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index):
        numbers = range(len(self))[index]  # raises IndexError
        return self._name(numbers) if isinstance(numbers, int) else [self._name(number) for number in numbers]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.find(name) is not None

    def find(self, name: str) -> tuple[int, ...] | None:
        """Return the numbers of a member; None if there is no such member."""
        key = _encode(name)
        at = self._bisect(key)
        if at == len(self) or self._key(at) != key:
            return None
        return tuple(self._numbers[self._width * at : self._width * (at + 1)])

    def below(self, folder: str) -> Iterator[str]:
        """Yield the names of all members below a folder, sorted; "" is the archive itself."""
        prefix = _encode(f"{folder}/" if folder else "")
        for at in range(self._bisect(prefix), len(self)):
            key = self._key(at)
            if not key.startswith(prefix):
                return
            yield _decode(key)

    def _bisect(self, key: bytes) -> int:
        return bisect_left(range(len(self)), key, key=self._key)

    def _key(self, at: int) -> bytes:
        return bytes(self._text[self._ends[at - 1] if at else 0 : self._ends[at]])

    def _name(self, at: int) -> str:
        return _decode(self._key(at))


def normalise_name(name: str) -> str:
    """Return a member's name as a path below its archive: no drive or root, no empty, `.` or `..` part."""
    if "\\" in name and "/" not in name:  # written with Windows' separators
        name = name.replace("\\", "/")
    return "/".join(part for part in name.replace("\0", "").split("/") if part not in ("", ".", ".."))


def _encode(name: str) -> bytes:
    return name.encode("utf-8", "surrogatepass")


def _decode(key: bytes) -> str:
    return key.decode("utf-8", "surrogatepass")
