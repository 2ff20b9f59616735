"""Raw files come whole and verified, or the reason is said. Servers are this test's own, on loopback."""

import gzip
import hashlib
import http.server
import os
import shutil
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from aebench.data.sources import RawFile, Source, debian_package, local_folder, mirrors, obtain
from aebench.errors import DataError

CONTENT = {"images": os.urandom(5000), "labels": bytes(range(256))}
FILES = tuple(RawFile(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in CONTENT.items())


def failing(reason: str = "is asleep") -> Source:
    def read(file: RawFile) -> bytes:
        raise DataError(reason)

    return Source("nobody", read)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A web server's address and the folder that it serves."""
    folder = tmp_path / "served"
    folder.mkdir()
    for name, data in CONTENT.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(data))

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(folder))  # type: ignore[arg-type]

        def do_GET(self) -> None:
            if self.path.startswith("/silent/"):
                time.sleep(3)
            elif self.path.startswith("/short/"):
                self.send_response(200)
                self.send_header("Content-Length", "9999")
                self.end_headers()
                self.wfile.write(b"too little")
            else:
                super().do_GET()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/", folder
    server.shutdown()
    server.server_close()


def whole(folder: Path) -> bool:
    return {path.name: path.read_bytes() for path in folder.iterdir()} == CONTENT


def test_a_mirror_is_used(served: tuple[str, Path], tmp_path: Path) -> None:
    said: list[str] = []
    obtain(FILES, tmp_path / "raw", [mirrors([served[0]])], said.append)
    assert whole(tmp_path / "raw")
    assert said == ["mirrors: verified"]


def test_files_that_are_there_and_verify_need_no_source(tmp_path: Path) -> None:
    for name, data in CONTENT.items():
        (tmp_path / name).write_bytes(data)
    obtain(FILES, tmp_path, [failing()], pytest.fail)  # which would be told of a source that fails
    assert whole(tmp_path)


def test_a_file_that_is_there_but_wrong_is_replaced(served: tuple[str, Path], tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "images").write_bytes(b"\0" * 5000)
    obtain(FILES, raw, [mirrors([served[0]])], print)
    assert whole(raw)


@pytest.mark.parametrize("packed", [True, False])
def test_the_users_folder_may_hold_them_plain_or_gzipped(tmp_path: Path, packed: bool) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    for name, data in CONTENT.items():
        (folder / (f"{name}.gz" if packed else name)).write_bytes(gzip.compress(data) if packed else data)
    obtain(FILES, tmp_path / "raw", [local_folder(folder)], print)
    assert whole(tmp_path / "raw")


PAGE = b"<!DOCTYPE html><html><body>Sign in to the network</body></html>"
DAMAGE = {
    "corrupted": (gzip.compress(b"\1" + CONTENT["images"][1:]), "SHA-256 differs"),
    "truncated": (gzip.compress(CONTENT["images"])[:-100], "damaged gzip"),
    "a page": (PAGE, f"{len(PAGE)} bytes, expected 5000"),
    "too large": (gzip.compress(b"\0" * 5_000_000), "more bytes, expected 5000"),
    "not gzip inside": (b"\x1f\x8b" + b"nonsense" * 10, "damaged gzip"),
    "empty": (b"", "0 bytes, expected 5000"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_download_is_refused_and_the_next_source_tried(
    served: tuple[str, Path], tmp_path: Path, damage: str
) -> None:
    content, reason = DAMAGE[damage]
    good = tmp_path / "good"
    good.mkdir()
    for name, data in CONTENT.items():
        (good / name).write_bytes(data)
    (served[1] / "images.gz").write_bytes(content)
    said: list[str] = []
    obtain(FILES, tmp_path / "raw", [mirrors([served[0]]), local_folder(good)], said.append)
    assert whole(tmp_path / "raw")
    assert reason in said[0]
    assert "\n" not in said[0]


def test_a_file_that_unpacks_to_far_more_is_not_unpacked(tmp_path: Path) -> None:
    (tmp_path / "images.gz").write_bytes(gzip.compress(bytes(100_000_000), 1))
    tracemalloc.start()
    with pytest.raises(DataError, match="more bytes, expected 5000"):
        obtain(FILES, tmp_path / "raw", [local_folder(tmp_path)], print)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000_000


def test_all_sources_fail_and_nothing_half_written_is_left(served: tuple[str, Path], tmp_path: Path) -> None:
    (served[1] / "labels.gz").unlink()
    raw = tmp_path / "raw"
    with pytest.raises(DataError) as caught:
        obtain(FILES, raw, [failing(), mirrors([served[0]], silence=2)], print)
    message = str(caught.value)
    for part in ("no source has labels", "nobody: is asleep", "HTTP 404", "execution.source_dir", str(raw)):
        assert part in message
    assert "\n" not in message
    assert [path.name for path in raw.iterdir()] == ["images"]  # whole and verified, so kept


def test_no_source_at_all(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no source has images, labels"):
        obtain(FILES, tmp_path / "raw", [], print)
    assert not (tmp_path / "raw").exists()


def test_a_server_that_is_silent_or_breaks_off_is_given_up(served: tuple[str, Path]) -> None:
    for address, reason in (("silent/", "timed out"), ("short/", "broke off|IncompleteRead")):
        with pytest.raises(DataError, match=reason):
            mirrors([served[0] + address], silence=0.5).read(FILES[0])


def test_a_server_that_sends_too_much_is_given_up(served: tuple[str, Path]) -> None:
    (served[1] / "images.gz").write_bytes(os.urandom(200_000))
    with pytest.raises(DataError, match="is larger than 10000 bytes"):
        mirrors([served[0]]).read(FILES[0])


def test_a_slow_server_is_given_up(served: tuple[str, Path]) -> None:
    with pytest.raises(DataError, match="longer than 0 seconds"):
        mirrors([served[0]], seconds=0).read(FILES[0])


def test_the_second_mirror_is_tried(served: tuple[str, Path]) -> None:
    content = mirrors([f"{served[0]}nowhere/", served[0]]).read(FILES[0])
    assert content == CONTENT["images"]


def fake_programs(folder: Path, **scripts: str) -> None:
    for name, script in scripts.items():
        program = folder / name.replace("_", "-")
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)


def test_the_package_archive_goes_through_apts_own_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """apt-get is asked to work in a folder of its own, and what dpkg-deb unpacks is read."""
    packed = tmp_path / "packed" / "usr" / "share" / "things"
    packed.mkdir(parents=True)
    for name, data in CONTENT.items():
        (packed / f"{name}.gz").write_bytes(gzip.compress(data))
    programs = tmp_path / "bin"
    programs.mkdir()
    fake_programs(
        programs,
        apt_get=f'echo "$@" >> {tmp_path}/calls; case "$*" in *download*) touch things_1_all.deb;; esac',
        dpkg_deb=f'cp -r {tmp_path}/packed "$3"',
    )
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    obtain(FILES, tmp_path / "raw", [debian_package("things", "usr/share/things")], print)
    assert whole(tmp_path / "raw")
    calls = (tmp_path / "calls").read_text().splitlines()
    assert len(calls) == 2  # unpacked once for both files
    assert all("Dir::State::lists=" in call and "Dir::Cache=" in call for call in calls)


@pytest.mark.parametrize(
    ("script", "reason"),
    [("echo 'W: old' >&2; echo 'E: no such package' >&2; exit 100", "apt-get failed: E: no such package"),
     ("exit 0", "downloaded no things"),
     ("exec sleep 30", "timed out")],
)  # fmt: skip
def test_an_archive_that_fails_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, reason: str
) -> None:
    fake_programs(tmp_path, apt_get=script)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    if not shutil.which("dpkg-deb"):
        fake_programs(tmp_path, dpkg_deb="exit 1")
    said: list[str] = []
    with pytest.raises(DataError, match=reason):
        obtain(FILES, tmp_path / "raw", [debian_package("things", "usr/share/things", seconds=1)], said.append)
    assert said[0].startswith("package things: ")


def test_a_system_without_apt_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match="there is no apt-get"):
        debian_package("things", "usr/share/things").read(FILES[0])


def test_torchvision_imports_and_names_its_mirrors() -> None:
    from aebench.data.torchvision_import import torchvision

    addresses = torchvision.datasets.FashionMNIST.mirrors
    assert addresses
    assert all(address.startswith("http") and address.endswith("/") for address in addresses)
    names = {name.removesuffix(".gz") for name, _ in torchvision.datasets.FashionMNIST.resources}
    from aebench.data.datasets import DATASETS

    assert names == {file.name for file in DATASETS["fashion_mnist"].files}
