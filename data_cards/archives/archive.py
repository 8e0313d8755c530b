"""The interface of every kind of archive: its members, and the bytes of each."""

from abc import ABC, abstractmethod

from data_cards.archives.members import Members
from data_cards.core.errors import PictureError, UserError
from data_cards.core.files import MAX_BYTES


class ArchiveError(UserError):
    """An archive that cannot be read in place; `reason` is the message without the archive's path."""

    def __init__(self, path: str, reason: str):
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = path, reason

    def __reduce__(self):
        return type(self), (self.path, self.reason)


class Archive(ABC):
    """An archive on disk, whose members are read in place. Holds no open file; several threads may read.

    Attributes
    ----------
    path : str, of the archive's file
    members : Members, the files in it, without folders and devices
    """

    path: str
    members: Members

    @abstractmethod
    def read(self, name: str, most: int | None = None) -> bytes:
        """Read the bytes of a member, or its first `most`.

        Raises
        ------
        PictureError : there is no such member, it is larger than `MAX_BYTES`, damaged, encrypted, or stored in a way
            that is not read in place
        """

    def find_folder(self, name: str) -> str:
        """Return the folder CLASS/[SOURCE] that the archive's own labels give a member; "" if there are none."""
        return ""


def find_numbers(members: Members, name: str) -> tuple[int, ...]:
    """Return the numbers of a member; raises `PictureError` if there is no such member."""
    numbers = members.find(name)
    if numbers is None:
        raise PictureError("cannot be read: not in its archive")
    return numbers


def check_size(size: int) -> None:
    """Raise `PictureError` for a member of more than `MAX_BYTES`."""
    if size > MAX_BYTES:
        raise PictureError(f"too large: {size:,} bytes, at most {MAX_BYTES:,} are read")


def link_error() -> PictureError:
    """Return the error of a member that is a link to another file."""
    return PictureError("a link in an archive, which is not followed; unpack the archive")


def damage_error(why: object) -> PictureError:
    """Return the error of a member whose bytes are damaged."""
    return PictureError(f"damaged in its archive: {why}; download the archive again")
