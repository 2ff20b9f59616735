"""Where raw files come from. A file counts as found only when its content has the checksum that the table gives.

The chain: files already there, the user's folder, torchvision's mirrors, the operating system's package archive.
Nothing is parsed before it is verified, and a file appears in its folder whole or not at all.
"""

import hashlib
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError

from aebench.data.unpacking import inflate
from aebench.errors import DataError, plain
from aebench.extras import require
from aebench.paths import write

_IN_WORDS = {"md5": "MD5", "sha256": "SHA-256"}
# So many bytes a second come from a server at least, else it is given up.
_SLOWEST = 200_000


@dataclass(frozen=True)
class RawFile:
    """One file of a data set as it is kept: a name, its size in bytes, and a checksum in hex.

    One that is kept as it was published is known by the MD5 that torchvision lists. Any other is kept decompressed, and
    known by the SHA-256 of that, since who passes it on may have compressed it anew.
    """

    name: str
    size: int
    checksum: str

    @property
    def algorithm(self) -> str:
        """Of the checksum, as `hashlib` calls it."""
        return "md5" if len(self.checksum) == 32 else "sha256"

    @property
    def packed(self) -> bool:
        """Whether it is kept as it was published."""
        return self.algorithm == "md5"

    @property
    def published(self) -> str:
        """The name under which servers and packages have it."""
        return self.name if self.packed else f"{self.name}.gz"


@dataclass(frozen=True)
class Source:
    """A place to look: `read(file)` gives the content, plain or gzipped, or raises an error that says why not."""

    name: str
    read: Callable[[RawFile], bytes]


def obtain(files: Iterable[RawFile], folder: Path, sources: Iterable[Source], log: Callable[[str], None]) -> None:
    """Have all `files` in `folder`, decompressed and verified; each is taken from the first source that has it.

    Args:
        files: what is wanted.
        folder: where the files go; those that lie there and verify are kept.
        sources: the places to look, in order.
        log: gets one line for every source that fails.

    Raises:
        DataError: no source has all of the files; the message lists what each said and how to place files by hand.
    """
    missing = [file for file in files if not _holds(folder, file)]
    reasons = []
    for source in sources:
        if not missing:
            return
        try:
            while missing:
                write(folder / missing[0].name, _verified(missing[0], source.read(missing[0])))
                missing.pop(0)
            log(f"{source.name}: verified")
        except (OSError, DataError, subprocess.SubprocessError) as error:
            reasons.append(f"{source.name}: {plain(error, 500)}")
            log(f"{reasons[-1]}; trying the next source")
    if missing:
        raise DataError(
            f"no source has {', '.join(file.name for file in missing)} ({'; '.join(reasons) or 'no source'}). "
            f"Place the files{', plain or with .gz,' if not missing[0].packed else ''} in a folder and name it in "
            f"params.yaml as execution.source_dir, or place them under these names in {folder}"
        )


def _holds(folder: Path, file: RawFile) -> bool:
    path = folder / file.name
    if not path.is_file() or path.stat().st_size != file.size:
        return False
    return checksum(path, file.algorithm) == file.checksum


def checksum(path: Path, algorithm: str = "sha256") -> str:
    """Of a file, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest()


def _verified(file: RawFile, content: bytes) -> bytes:
    """The content as it is kept, never more than a byte beyond the size that is expected."""
    if content[:2] == b"\x1f\x8b" and not file.packed:
        try:
            content = inflate(content, file.size)
        except ValueError as error:
            raise DataError(f"{file.name}: {error}") from None
    if len(content) != file.size:
        size = "more" if len(content) > file.size else f"{len(content)}"
        raise DataError(f"{file.name}: {size} bytes, expected {file.size}")
    if hashlib.new(file.algorithm, content).hexdigest() != file.checksum:
        raise DataError(f"{file.name}: {_IN_WORDS[file.algorithm]} differs from the published one")
    return content


def local_folder(folder: Path) -> Source:
    """A folder with the files, as they are kept or as they are published."""

    def read(file: RawFile) -> bytes:
        names = dict.fromkeys((file.name, file.published))
        for path in (folder / name for name in names):
            if path.is_file():
                return path.read_bytes()
        raise DataError(f"{'neither ' if len(names) > 1 else 'no '}{' nor '.join(names)} in {folder}")

    return Source(f"execution.source_dir {folder}", read)


def mirrors(addresses: Iterable[str], *, seconds: float = 60, silence: float = 10) -> Source:
    """Web servers that hold the published files under these addresses; what they send is verified.

    Args:
        addresses: tried in order, each ending in a slash.
        seconds: time limit for one file from one server.
        silence: time limit for a server to answer, and between two pieces of a file.
    """

    def read(file: RawFile) -> bytes:
        reasons = []
        for address in addresses:
            try:
                limit = file.size if file.packed else 2 * file.size
                return _verified(file, _download(f"{address}{file.published}", limit, seconds, silence))
            except HTTPError as error:
                reasons.append(f"HTTP {error.code} {error.reason}")
            except URLError as error:
                reasons.append(str(error.reason))
            except (OSError, HTTPException, DataError) as error:
                reasons.append(str(error))
        raise DataError("; ".join(reasons) or "no mirror is known")

    return Source("mirrors", read)


def _download(address: str, limit: int, seconds: float, silence: float) -> bytes:
    deadline = time.monotonic() + seconds
    content = bytearray()
    with urllib.request.urlopen(address, timeout=silence) as response:
        while piece := response.read1(1 << 16):
            content += piece
            if time.monotonic() > deadline:
                raise DataError(f"took longer than {seconds:g} seconds")
            if len(content) > limit:
                raise DataError(f"is larger than {limit} bytes")
        if response.length:  # what http.client still expects
            raise DataError(f"broke off {response.length} bytes before its end")
    return bytes(content)


def torchvision_mirrors(addresses: Callable[[Any], Iterable[str]]) -> Source:
    """The servers that torchvision names; large files may take longer.

    Args:
        addresses: finds them in `torchvision.datasets`, each ending in a slash.
    """

    def read(file: RawFile) -> bytes:
        require(__name__, "torchvision")
        from aebench.data.torchvision_import import torchvision

        return mirrors(addresses(torchvision.datasets), seconds=60 + file.size / _SLOWEST).read(file)

    return Source("torchvision's mirrors", read)


def debian_package(package: str, folder: str, *, seconds: float = 300) -> Source:
    """A Debian package that holds the published files in `folder`, through apt's own client, within so many `seconds`.

    Needs neither root nor write access to the system: apt's lists and caches are put into a temporary folder.
    """
    unpacked: dict[str, bytes] = {}

    def read(file: RawFile) -> bytes:
        if not unpacked:
            unpacked.update(_unpack(package, folder, seconds))
        if file.published not in unpacked:
            raise DataError(f"{package} does not hold {file.published}")
        return unpacked[file.published]

    return Source(f"package {package}", read)


def _unpack(package: str, folder: str, seconds: float) -> dict[str, bytes]:
    for program in ("apt-get", "dpkg-deb"):
        if not shutil.which(program):
            raise DataError(f"there is no {program} on this system")
    deadline = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "lists" / "partial").mkdir(parents=True)
        (Path(scratch) / "cache" / "archives" / "partial").mkdir(parents=True)
        private = [
            *("-o", f"Dir::State::lists={scratch}/lists", "-o", f"Dir::Cache={scratch}/cache"),
            *("-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=", "-o", "Acquire::Retries=1", "-qq"),
        ]

        def call(*command: str) -> None:
            done = subprocess.run(
                command,
                cwd=scratch,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=max(1.0, deadline - time.monotonic()),
                check=False,
            )
            if done.returncode:
                lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no message"]
                raise DataError(f"{command[0]} failed: {lines[-1]}")

        call("apt-get", *private, "update")
        call("apt-get", *private, "download", package)
        downloaded = next(Path(scratch).glob(f"{package}_*.deb"), None)
        if downloaded is None:
            raise DataError(f"apt-get downloaded no {package}")
        call("dpkg-deb", "-x", str(downloaded), "unpacked")
        return {path.name: path.read_bytes() for path in (Path(scratch) / "unpacked" / folder).glob("*.gz")}
