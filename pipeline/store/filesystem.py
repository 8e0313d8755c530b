"""File access for a store: a local folder, or a prefix in object storage such as s3://bucket/name.

A file is either whole or absent: locally it is written under a temporary name and renamed; object storage lists an
object only once its upload is complete. A local store is untrusted: no link that leads out of it is followed to read,
write or remove a file (`data_cards.core.contained`).
"""

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

import fsspec
import zarr
from zarr.abc.store import Store
from zarr.storage import FsspecStore, LocalStore

from data_cards.core.contained import (
    check_contained,
    kind_error,
    open_contained_file,
    read_contained,
    remove_contained,
    resolve_contained,
    walk_contained,
)
from data_cards.core.errors import UserError, format_error
from data_cards.core.extras import format_install
from data_cards.core.files import PARTIAL, create_file, temporary_name
from data_cards.core.value_types import convert_value

# Files of at least `_LARGE` bytes have `_RESERVED` bytes allocated ahead. Without that, ext4 allocates blocks when it
# writes its cache back or replaces a file, at ten times the processor time of writing.
_LARGE, _RESERVED = 2**20, 2**24
_BLOCK = 2**20  # bytes read at a time
MOST_BYTES = 2**30  # of a file that is read whole


class Storage:
    """Files below a folder or URL; names are relative to it, with forward slashes."""

    def __init__(self, url: str | os.PathLike):
        url = convert_value("path", url, str | os.PathLike)
        # fsspec and Zarr disagree on "~" and "file://".
        self.url = os.path.expanduser(os.fspath(url).removeprefix("file://")).rstrip("/")
        self.is_local = "://" not in self.url
        try:
            self._files, self._root = fsspec.url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            advice = f"; s3:// needs s3fs: `{format_install('s3')}`" if self.url.startswith("s3:") else ""
            raise UserError(f"{self.url}: {error}{advice}") from error

    @property
    def absolute_url(self) -> str:
        """The folder or URL, for processes with another working folder."""
        return self._root if self.is_local else self.url

    def check_links(self) -> None:
        """Raise `UnsafeFileError` if a local store has a link that leads out of it, a pipe or a device."""
        if self.is_local:
            check_contained(self._root)

    def read(self, name: str, most: int = MOST_BYTES) -> bytes:
        """Read a file's bytes; raises `FileNotFoundError`, and `ValueError` for more than `most` bytes."""
        if self.is_local:
            return read_contained(self._root, name, most)
        # Read one byte more than allowed to detect a longer file.
        data = self._files.cat_file(self.path(name), start=0, end=most + 1)
        if len(data) > most:
            raise ValueError(f"{name} is too large; expected at most {most:,} bytes")
        return data

    def read_blocks(self, name: str) -> Iterator[bytes]:
        """Yield a file's bytes in blocks; raises `FileNotFoundError` on the first."""
        with open_contained_file(self._root, name) if self.is_local else self._files.open(self.path(name)) as file:
            while block := file.read(_BLOCK):
                yield block

    def size(self, name: str) -> int:
        """Return a file's size in bytes; raises `FileNotFoundError`."""
        if self.is_local:
            return os.stat(resolve_contained(self._root, name)).st_size
        return self._files.size(self.path(name))

    def read_ends(self, names: Sequence[str], count: int) -> list[bytes]:
        """Read the last `count` bytes of each file, or all of a shorter file; b"" for an unreadable file."""
        if self.is_local:
            return [self._read_end(name, count) for name in names]
        ends = self._files.cat_ranges([self.path(name) for name in names], -count, None, on_error="return")
        return [b"" if isinstance(end, Exception) else end for end in ends]

    def write(self, name: str, *parts: bytes) -> None:
        """Write a file from parts, whole or not at all. A local file's folder must exist."""
        self.write_stream(name, parts)

    def write_stream(self, name: str, parts: Iterable[bytes], durable: bool = False) -> None:
        """Write a file from an iterable of parts, whole or not at all; errors of the iterable are raised unchanged.

        Parameters
        ----------
        durable : bool
            Return only once the bytes are on the disk, so that no later file survives a power cut without this one.
        """
        if not self.is_local:
            self._files.pipe_file(self.path(name), b"".join(parts))
            return
        folder, _, last = name.rpartition("/")
        folder = resolve_contained(self._root, folder)
        # The name is unique, because on a cluster a worker of an ended build may still write the same file.
        temporary = os.path.join(folder, temporary_name(last))
        try:
            with create_file(temporary) as file:
                written = reserved = 0
                for part in parts:
                    written += len(part)
                    if written > reserved and written >= _LARGE:
                        with suppress(AttributeError, OSError):  # not supported everywhere; `write` raises other errors
                            os.posix_fallocate(file.fileno(), reserved, written + _RESERVED - reserved)
                        reserved = written + _RESERVED
                    file.write(part)
                file.truncate(written)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            os.replace(temporary, os.path.join(folder, last))
        except BaseException:
            with suppress(OSError):  # leave no partial file on a full disk
                os.remove(temporary)
            raise

    def flush(self, name: str) -> None:
        """Wait until a file's bytes are on the disk; not needed for object storage, where written objects are safe."""
        if not self.is_local:
            return
        # Some systems do not flush a file opened for reading.
        file = os.open(resolve_contained(self._root, name), os.O_RDWR)
        try:
            os.fsync(file)
        finally:
            os.close(file)

    def exists(self, name: str = "") -> bool:
        """Return whether a file or a folder with files exists; raises `UserError` if the storage is unreachable."""
        self._files.invalidate_cache()
        try:
            return self._files.exists(self.path(name))
        except Exception as error:  # storages raise many types
            if self.is_local:
                raise
            raise self._access_error("reached", error) from error

    def check_writable(self) -> None:
        """Raise `UserError` if object storage accepts no object: no server, no bucket or no permission.

        Writes and removes an object beside the store, the only reliable test.
        """
        beside = self._root + PARTIAL
        try:
            self._files.pipe_file(beside, b"may be removed")
            self._files.rm_file(beside)
        except Exception as error:
            raise self._access_error("written", error) from error

    def list_files(self, folder: str = "") -> Iterator[str]:
        """Yield the names of all files below a folder, sorted; locally only regular files."""
        if self.is_local:
            entries = walk_contained(resolve_contained(self._root, folder))
            paths = [entry.path for entry in entries if entry.is_file(follow_symlinks=False)]
            root = os.path.realpath(self._root)
            yield from sorted(os.path.relpath(path, root).replace(os.sep, "/") for path in paths)
            return
        self._files.invalidate_cache()
        for path in sorted(self._files.find(self.path(folder))):
            yield path.removeprefix(self._root).lstrip("/")

    def list_entries(self, folder: str) -> list[str]:
        """List the names of a folder's direct entries, sorted; empty for a missing folder."""
        if self.is_local:
            try:
                return sorted(os.listdir(resolve_contained(self._root, folder)))
            except (FileNotFoundError, NotADirectoryError):
                return []
        self._files.invalidate_cache()
        try:
            found = self._files.ls(self.path(folder), detail=False)
        except FileNotFoundError:
            return []
        return sorted(path.rstrip("/").rsplit("/", 1)[1] for path in found)

    def count_bytes(self, folder: str = "") -> int:
        """Return the size in bytes of all files below a folder."""
        if self.is_local:
            return sum(map(_size, walk_contained(resolve_contained(self._root, folder))))
        self._files.invalidate_cache()
        return sum(self._files.du(self.path(folder), total=False).values())

    def create_folder(self, name: str = "") -> None:
        """Create the storage's own folder with its parents, or a folder below it. Does nothing in object storage.

        To create a folder below it, the storage's own folder must exist.

        Raises
        ------
        UserError : the storage's own folder was renamed or removed, and a worker of an ended build must not recreate
            it
        """
        if not self.is_local:
            return
        if not name:
            os.makedirs(self.path(), exist_ok=True)
            return
        folder = ""
        try:
            for part in name.split("/"):
                folder = f"{folder}/{part}".lstrip("/")
                with suppress(FileExistsError):
                    os.mkdir(resolve_contained(self._root, folder))
        except FileNotFoundError as error:
            raise UserError(f"{self.url}: was removed or renamed; run the same command again") from error

    def remove(self, name: str = "") -> None:
        """Remove a file, a link, or a folder with everything below it, if it exists; no link is followed."""
        if self.is_local:
            remove_contained(self._root, name)
            return
        self._files.invalidate_cache()
        if self._files.exists(self.path(name)):
            with suppress(FileNotFoundError):  # removed meanwhile
                self._files.rm(self.path(name), recursive=True)

    def path(self, name: str = "") -> str:
        """Return the file system's path of a name."""
        return f"{self._root}/{name}" if name else self._root

    def open_group(self, mode: str) -> zarr.Group:
        """Open the store's Zarr group with one of Zarr's modes: "r", "r+" or "a"."""
        return zarr.open_group(self.zarr_store(mode == "r"), mode=mode, zarr_format=3, use_consolidated=False)

    def zarr_store(self, read_only: bool = True) -> Store:
        """Return the storage as a Zarr `Store`."""
        if self.is_local:
            return _ContainedStore(self._root, read_only=read_only)
        return FsspecStore.from_url(self.url, read_only=read_only)

    def _read_end(self, name: str, count: int) -> bytes:
        try:
            with open_contained_file(self._root, name) as file:
                file.seek(max(file.seek(0, os.SEEK_END) - count, 0))
                return file.read(count)
        except OSError:
            return b""

    def _access_error(self, what: str, error: Exception) -> UserError:
        why = format_error(error).rstrip(".")
        return UserError(
            f"{self.url}: cannot be {what} ({why}); check the bucket's name, the address and the credentials"
        )


class _ContainedStore(LocalStore):
    """Zarr's local store that refuses links which lead out of its folder."""

    async def get(self, key, prototype=None, byte_range=None):
        self._check(key)
        return await super().get(key, prototype, byte_range)

    async def get_partial_values(self, prototype, key_ranges):
        key_ranges = list(key_ranges)
        for key, _ in key_ranges:
            self._check(key)
        return await super().get_partial_values(prototype, key_ranges)

    async def _set(self, key, value, exclusive=False):
        self._check(key)
        return await super()._set(key, value, exclusive)

    async def delete(self, key):
        self._check(key)
        return await super().delete(key)

    async def delete_dir(self, prefix):
        self._check(prefix)
        return await super().delete_dir(prefix)

    def _check(self, key: str) -> None:
        path = resolve_contained(self.root, key)
        with suppress(FileNotFoundError, NotADirectoryError):
            mode = os.stat(path).st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # reading a pipe would wait
                raise kind_error(os.path.join(self.root, key))


def _size(entry: os.DirEntry) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_size
    except FileNotFoundError:  # renamed meanwhile by a running build
        return 0
