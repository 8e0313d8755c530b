"""File access for a store: a local folder, or a prefix in object storage such as s3://bucket/name.

A file is either whole or absent: locally it is written under a temporary name and renamed; object storage shows an
object only when all of it has arrived.
"""

import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

import fsspec

from data_cards.core.errors import UserError, format_error
from data_cards.core.files import PARTIAL

# From the first size on, blocks are reserved the second many bytes ahead. Ext4 alone allocates them when it writes its
# cache back or replaces a file, at ten times the processor time of the writing itself.
_LARGE, _RESERVED = 2**20, 2**24


class Storage:
    """Files below one folder or URL, by names relative to it, with forward slashes."""

    def __init__(self, url: str | os.PathLike):
        # Of fsspec and Zarr only one expands "~" and accepts "file://".
        self.url = os.path.expanduser(os.fspath(url).removeprefix("file://")).rstrip("/")
        self.is_local = "://" not in self.url
        try:
            self._files, self._root = fsspec.url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            raise UserError(f"{self.url}: {error}; for s3:// install the extra: pip install '.[s3]'") from error

    def read(self, name: str) -> bytes:
        """Read a file's bytes; raises `FileNotFoundError`."""
        return self._files.cat_file(self.path(name))

    def read_ends(self, names: Sequence[str], count: int) -> list[bytes]:
        """Read the last `count` bytes of each file, or all of a shorter one; b"" for one that cannot be read."""
        ends = self._files.cat_ranges([self.path(name) for name in names], -count, None, on_error="return")
        return [b"" if isinstance(end, Exception) else end for end in ends]

    def write(self, name: str, *parts: bytes) -> None:
        """Write a file from parts, whole or not at all. Locally its folder must exist."""
        self.write_stream(name, parts)

    def write_stream(self, name: str, parts: Iterable[bytes], durable: bool = False) -> None:
        """Write a file from an iterable of parts, whole or not at all; its errors are raised unchanged.

        Parameters
        ----------
        durable : bool
            Return when the disk has the bytes, so that no later file survives a power cut without this one.
        """
        if not self.is_local:
            self._files.pipe_file(self.path(name), b"".join(parts))
            return
        # A unique name: on a cluster a worker of an ended build may still write the same file.
        temporary = f"{self.path(name)}.{uuid.uuid4().hex}{PARTIAL}"
        try:
            with open(temporary, "wb") as file:
                written = reserved = 0
                for part in parts:
                    written += len(part)
                    if written > reserved and written >= _LARGE:
                        with suppress(AttributeError, OSError):  # not everywhere; `write` raises other errors
                            os.posix_fallocate(file.fileno(), reserved, written + _RESERVED - reserved)
                        reserved = written + _RESERVED
                    file.write(part)
                file.truncate(written)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            os.replace(temporary, self.path(name))
        except BaseException:
            with suppress(OSError):  # leave no partial file on a full disk
                os.remove(temporary)
            raise

    def flush(self, name: str) -> None:
        """Return when the disk has a file's bytes; in object storage at once, which has every written object."""
        if not self.is_local:
            return
        file = os.open(self.path(name), os.O_RDWR)  # not all systems flush a file opened for reading
        try:
            os.fsync(file)
        finally:
            os.close(file)

    def exists(self, name: str = "") -> bool:
        """Return whether a file, or anything in a folder, exists; raises `UserError` if the storage is unreachable."""
        self._files.invalidate_cache()
        try:
            return self._files.exists(self.path(name))
        except Exception as error:  # of many kinds, the storage's own
            if self.is_local:
                raise
            raise self._access_error("reached", error) from error

    def check_writable(self) -> None:
        """Raise `UserError` if object storage accepts no object: no server, no bucket, no permission.

        Writes and removes an object beside the store, because no other call shows it for certain.
        """
        beside = self._root + PARTIAL
        try:
            self._files.pipe_file(beside, b"may be removed")
            self._files.rm_file(beside)
        except Exception as error:
            raise self._access_error("written", error) from error

    def list_files(self, folder: str = "") -> Iterator[str]:
        """Yield the names of all files below a folder, sorted."""
        if self.is_local:
            yield from sorted(os.path.relpath(path, self._root).replace(os.sep, "/") for path in self._walk(folder))
            return
        self._files.invalidate_cache()
        for path in sorted(self._files.find(self.path(folder))):
            yield path.removeprefix(self._root).lstrip("/")

    def list_entries(self, folder: str) -> list[str]:
        """List the names of a folder's direct entries, sorted; none for a missing folder."""
        self._files.invalidate_cache()
        try:
            found = self._files.ls(self.path(folder), detail=False)
        except FileNotFoundError:
            return []
        return sorted(path.rstrip("/").rsplit("/", 1)[1] for path in found)

    def count_bytes(self, folder: str = "") -> int:
        """Return the size in bytes of all files below a folder."""
        if self.is_local:
            return sum(map(_size, self._walk(folder)))
        self._files.invalidate_cache()
        return sum(self._files.du(self.path(folder), total=False).values())

    def create_folder(self, name: str = "") -> None:
        """Create the storage's own folder with its parents, or a folder below it, for which it must exist.

        Object storage has no folders.

        Raises
        ------
        UserError : the storage's own folder was renamed or removed; a worker that outlived its build must not
            recreate it
        """
        if not self.is_local:
            return
        if not name:
            os.makedirs(self.path(), exist_ok=True)
            return
        folder = self.path()
        try:
            for part in name.split("/"):
                folder = f"{folder}/{part}"
                with suppress(FileExistsError):
                    os.mkdir(folder)
        except FileNotFoundError as error:
            raise UserError(f"{self.url}: was removed or renamed; run the same command again") from error

    def remove(self, name: str = "") -> None:
        """Remove a file, or a folder with everything below it, if it exists."""
        self._files.invalidate_cache()
        if self._files.exists(self.path(name)):
            with suppress(FileNotFoundError):  # removed meanwhile
                self._files.rm(self.path(name), recursive=True)

    def path(self, name: str = "") -> str:
        """Return the file system's path of a name."""
        return f"{self._root}/{name}" if name else self._root

    def _walk(self, folder: str) -> Iterator[str]:
        # Not with fsspec, which leaves out a whole folder when one of its files vanishes meanwhile.
        for parent, _, names in os.walk(self.path(folder), followlinks=True):
            yield from (os.path.join(parent, name) for name in names)

    def _access_error(self, what: str, error: Exception) -> UserError:
        why = format_error(error).rstrip(".")
        return UserError(
            f"{self.url}: cannot be {what} ({why}); check the bucket's name, the address and the credentials"
        )


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:  # of a running build, and renamed meanwhile
        return 0
