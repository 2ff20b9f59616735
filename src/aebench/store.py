"""What was computed before, kept outside DVC's outputs under the hash of everything that determines it.

DVC deletes a stage's outputs before it runs, and knows a cell only as a whole. Here lie single runs, finished ones and
checkpoints of others, so that an interrupted stage goes on where it stopped and no seed is computed twice.
"""

import hashlib
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from safetensors.numpy import load, save

from aebench.errors import FileError
from aebench.paths import write

_MARK = b"aebench\x01"
_DIGEST = 32
_unwritable: set[Path] = set()


@dataclass(frozen=True)
class Store:
    """Entries by name, each with the hash of its content; `limit` bytes in all: the least recently used make room.

    An entry appears whole or not at all. Whatever fails here costs time, never a result: a line says so.
    """

    folder: Path
    limit: int

    def get(self, name: str) -> bytes | None:
        """The content of an entry; None where there is none that can be read. A damaged one is set aside."""
        path = self.folder / name
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            _note(f"{path} cannot be read and is not used: {error.strerror}")
            return None
        head = _head(name, content[len(_MARK) + _DIGEST :])
        if not content.startswith(head):
            with suppress(OSError):
                path.replace(path.with_suffix(".damaged"))
            _note(f"{path} is damaged or another's; it is set aside as {path.with_suffix('.damaged').name}")
            return None
        with suppress(OSError):
            os.utime(path)  # used last
        return content[len(head) :]

    def put(self, name: str, content: bytes) -> None:
        """Keep `content` under `name`: written, flushed to the disk, then renamed."""
        try:
            write(self.folder / name, _head(name, content) + content, flush=True)
            self._make_room(keep=name)
        except (FileError, OSError) as error:
            self._note_unwritable(str(error))

    def discard(self, name: str) -> None:
        """Forget an entry."""
        with suppress(OSError):
            (self.folder / name).unlink(missing_ok=True)

    @contextmanager
    def lock(self, what: str) -> Iterator[None]:
        """Wait until no other process works on `what`, whose results can then be taken from here.

        Where the folder cannot be written to, there is no wait.
        """
        file_lock = FileLock(self.folder / f"{what}.lock")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            file_lock.acquire(timeout=0)
        except Timeout:
            _note(f"another process works on {what}; waiting for it to end")
            file_lock.acquire()
        except OSError as error:
            self._note_unwritable(f"{self.folder} cannot be written to: {error.strerror}")
        try:
            yield
        finally:
            file_lock.release()

    def _note_unwritable(self, line: str) -> None:
        """Once: on a full disk no entry can be written."""
        if self.folder not in _unwritable:
            _unwritable.add(self.folder)
            _note(f"{line}; the work goes on without it")

    def _make_room(self, keep: str) -> None:
        entries = []
        for path in self.folder.iterdir():
            with suppress(FileNotFoundError):  # another process has removed it
                if path.suffix != ".lock" and path.name != keep:
                    entries.append((path.stat().st_mtime, path.stat().st_size, path))
        used = (self.folder / keep).stat().st_size + sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries):
            if used <= self.limit:
                break
            path.unlink(missing_ok=True)
            used -= size


def _head(name: str, content: bytes) -> bytes:
    """What an entry begins with: its name is part of the hash, so that one file cannot pass for another."""
    return _MARK + hashlib.sha256(name.encode() + b"\0" + content).digest()


def _note(line: str) -> None:
    print(f"store: {line}", file=sys.stderr, flush=True)


def pack_files(files: Mapping[str, bytes]) -> bytes:
    """Several files as one: a safetensors file, in which each is an array of bytes."""
    return save({name: np.frombuffer(content, np.uint8) for name, content in files.items()})


def unpack_files(packed: bytes) -> dict[str, bytes]:
    """What `pack_files` made one."""
    return {name: content.tobytes() for name, content in load(packed).items()}
