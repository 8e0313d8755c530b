"""Facts of picture files kept between scans, so that the next scan need not read the files again.

The cache is one SQLite file in the user's cache folder. A file is recognised by its path and its stamp: size, inode,
mtime, and ctime, which no program can set. A file that was moved or touched is recognised by the hash of its bytes, so
it is hashed but not decoded. A file that changed less than two seconds ago is not remembered, because a second change
within the clock's step would go unnoticed. Not detected: a change of content that leaves the whole stamp unchanged,
after the clock was set back or by a write that bypasses the file system. A build detects it, because it hashes every
file that it reads.

A cache that is damaged or cannot be written is not used.
"""

import json
import os
import sqlite3
import time
from pathlib import Path
from threading import Lock

from data_cards.image.facts import PictureFacts

VERSION = 5  # raised when facts or the table change their meaning; older caches are then not used
ENVIRONMENT = "SPECTRAL_DETECTOR_CACHE"
_FRESH = 2 * 10**9  # nanoseconds
_BATCH = 500


def find_cache_folder() -> Path:
    """Return this program's cache folder, from the environment or the system's convention."""
    if os.environ.get(ENVIRONMENT):
        return Path(os.environ[ENVIRONMENT])
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or Path.home() / ".cache"
    return Path(base) / "spectral-detector"


class ScanCache:
    """Facts by file and by hash; safe for several threads. With `folder` None it remembers nothing."""

    def __init__(self, folder: Path | None):
        self._database = None if folder is None else _open(folder)
        self._new: list[tuple] = []
        self._lock = Lock()

    def find(self, path: Path, status: os.stat_result) -> PictureFacts | None:
        """Return the facts of a file that has not changed since they were read."""
        return self._query("path = ? and stamp = ?", os.fspath(path), _format_stamp(status))

    def find_by_hash(self, sha256: bytes) -> PictureFacts | None:
        """Return the facts of any file with these bytes."""
        return self._query("sha256 = ?", sha256)

    def add(self, path: Path, status: os.stat_result, facts: PictureFacts) -> None:
        """Remember a file's facts; `status` is from before the file was read."""
        if self._database is None or time.time_ns() - status.st_mtime_ns < _FRESH:
            return
        with self._lock:
            self._new.append((os.fspath(path), _format_stamp(status), facts.sha256, json.dumps(facts.to_dict())))
            if len(self._new) >= _BATCH:
                self._flush()

    def close(self) -> None:
        """Write new facts, and close the file."""
        with self._lock:
            self._flush()
            self._disconnect()

    def _query(self, condition: str, *values: str | bytes) -> PictureFacts | None:
        with self._lock:
            if self._database is None:
                return None
            try:
                row = self._database.execute(f"select facts from files where {condition}", values).fetchone()
            except sqlite3.Error:
                return None
        try:
            return PictureFacts.from_dict(json.loads(row[0])) if row else None
        except (ValueError, KeyError, TypeError):  # damaged: read the file instead
            return None

    def _flush(self) -> None:
        if self._database is None:
            return
        try:
            with self._database:
                self._database.executemany("insert or replace into files values (?, ?, ?, ?)", self._new)
        except sqlite3.Error:  # a full disk or a lock of another process must not fail a scan
            self._disconnect()
        self._new = []

    def _disconnect(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None


def _open(folder: Path) -> sqlite3.Connection | None:
    path = folder / f"scan-{VERSION}.sqlite"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            return _connect(path)
        except sqlite3.DatabaseError:
            path.unlink()
            return _connect(path)
    except (OSError, sqlite3.Error):
        return None


def _connect(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=10, check_same_thread=False)
    try:
        database.execute("pragma journal_mode = wal")
        database.execute(
            "create table if not exists files (path text primary key, stamp text, sha256 blob, facts text)"
        )
        database.execute("create index if not exists hashes on files (sha256)")
    except sqlite3.Error:
        database.close()
        raise
    return database


def _format_stamp(status: os.stat_result) -> str:
    """Format the stamp of a file as text, because inodes may be larger than SQLite's numbers."""
    return f"{status.st_size} {status.st_ino} {status.st_mtime_ns} {status.st_ctime_ns}"
