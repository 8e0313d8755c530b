"""What a scan remembers of picture files, so that the next one need not read them again.

One SQLite file in the user's cache folder. A file is known by its path and its stamp: size, inode,
and the times at which its bytes and its inode changed, of which the second cannot be set back. One
that has moved, or was only touched, is known by the hash of its bytes, and is then hashed but not
decoded. What a file that changed a moment ago held is not remembered: a second change within the
clock's step would go unseen. Never seen is what a file system does not tell: other bytes with the
same stamp, by a clock that was set back or by a write past the system, such as to the disk below
it. The build does see it, as it hashes every file that it reads.

A cache that is damaged or cannot be written is done without.
"""

import json
import os
import sqlite3
import time
from pathlib import Path
from threading import Lock

from data_cards.image.facts import PictureFacts

VERSION = 2  # raised when facts or the tables change their meaning; older ones are then forgotten
ENVIRONMENT = "SPECTRAL_DETECTOR_CACHE"
_FRESH = 2 * 10**9  # nanoseconds
_BATCH = 500


def find_cache_folder() -> Path:
    """The user's cache folder of this program, by the environment or the system's custom."""
    if os.environ.get(ENVIRONMENT):
        return Path(os.environ[ENVIRONMENT])
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or Path.home() / ".cache"
    return Path(base) / "spectral-detector"


class ScanCache:
    """Facts by file and by hash; several threads may use it."""

    def __init__(self, folder: Path | None):
        """`folder` None remembers nothing."""
        self._database = None if folder is None else _open(folder)
        self._new: list[tuple] = []
        self._lock = Lock()

    def find(self, path: Path) -> PictureFacts | None:
        """Facts of a file that has not changed since they were read."""
        try:
            status = path.stat()
        except OSError:
            return None
        return self._look_up(
            "select facts.facts from files join facts using (sha256) where path = ? and stamp = ?",
            (os.fspath(path), _stamp(status)),
        )

    def find_hash(self, sha256: bytes) -> PictureFacts | None:
        """Facts of a file with these bytes, wherever it lay."""
        return self._look_up("select facts from facts where sha256 = ?", (sha256,))

    def add(self, path: Path, status: os.stat_result, facts: PictureFacts) -> None:
        """Remember a file's facts; `status` as it was before the file was read."""
        if self._database is None or time.time_ns() - status.st_mtime_ns < _FRESH:
            return
        with self._lock:
            self._new.append((os.fspath(path), _stamp(status), facts))
            if len(self._new) >= _BATCH:
                self._flush()

    def close(self) -> None:
        """Write what is new, and close the file."""
        with self._lock:
            self._flush()
            if self._database is not None:
                self._database.close()
                self._database = None

    def _look_up(self, question: str, values: tuple) -> PictureFacts | None:
        with self._lock:
            if self._database is None:
                return None
            try:
                row = self._database.execute(question, values).fetchone()
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
                self._database.executemany(
                    "insert or replace into facts values (?, ?)",
                    [(facts.sha256, json.dumps(facts.to_dict())) for *_, facts in self._new],
                )
                self._database.executemany(
                    "insert or replace into files values (?, ?, ?)",
                    [(*known, facts.sha256) for *known, facts in self._new],
                )
        except sqlite3.Error:
            # A full disk or another's lock: nothing that a scan should fail of.
            self._database.close()
            self._database = None
        self._new = []


def _open(folder: Path) -> sqlite3.Connection | None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"scan-{VERSION}.sqlite"
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
        database.execute("create table if not exists facts (sha256 blob primary key, facts text)")
        database.execute("create table if not exists files (path text primary key, stamp text, sha256 blob)")
        database.execute("select count(*) from files where path = ''").fetchone()
    except sqlite3.Error:
        database.close()
        raise
    return database


def _stamp(status: os.stat_result) -> str:
    """What changes whenever a file is written or replaced. A text: inodes may be larger than SQLite's numbers."""
    return f"{status.st_size} {status.st_ino} {status.st_mtime_ns} {status.st_ctime_ns}"
