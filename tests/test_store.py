"""What is kept comes back whole or not at all, and no more is kept than allowed."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from aebench.store import Store, pack_files, unpack_files


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", 10_000)


def test_what_is_put_comes_back(store: Store) -> None:
    assert store.get("a") is None
    store.put("a", b"first")
    store.put("a", b"second")
    assert store.get("a") == b"second"
    store.discard("a")
    assert store.get("a") is None
    store.discard("a")


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "foreign", "another's"])
def test_what_is_damaged_or_foreign_is_set_aside_with_a_line(
    damage: str, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    store.put("b.run", b"of another")
    store.put("a.run", b"content")
    path = store.folder / "a.run"
    whole = path.read_bytes()
    spoilt = {
        "flipped": whole[:-1] + bytes([whole[-1] ^ 1]),
        "cut": whole[:-1],
        "empty": b"",
        "foreign": b"something else",
        "another's": (store.folder / "b.run").read_bytes(),
    }
    path.write_bytes(spoilt[damage])
    assert store.get("a.run") is None
    assert store.get("b.run") == b"of another"
    assert capsys.readouterr().err.count("\n") == 1
    assert not path.exists()
    assert path.with_suffix(".damaged").read_bytes() == spoilt[damage]


def test_the_oldest_make_room(store: Store) -> None:
    for number in range(6):
        store.put(f"{number}", bytes(3000))
        os.utime(store.folder / f"{number}", (number, number))
        if number == 1:
            store.get("0")  # used last, whenever it was written
    assert [number for number in range(6) if store.get(f"{number}")] == [0, 4, 5]
    assert sum(path.stat().st_size for path in store.folder.iterdir()) <= store.limit


def test_an_entry_larger_than_all_room_is_kept_alone(store: Store) -> None:
    store.put("small", bytes(10))
    store.put("large", bytes(20_000))
    assert store.get("large") == bytes(20_000)
    assert store.get("small") is None


def test_a_full_disk_is_a_line_and_the_old_entry_stays(store: Store) -> None:
    """A limit on the size of files stands for the disk: the write fails in its middle."""
    store.put("a", b"old")
    script = (
        "import sys, resource, signal; from pathlib import Path; from aebench.store import Store\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "store = Store(Path(sys.argv[1]), 10_000_000)\n"
        "store.put('a', bytes(100_000)); store.put('b', bytes(100_000)); print(store.get('a'))\n"
    )
    assert resource.RLIMIT_FSIZE
    done = subprocess.run(
        [sys.executable, "-c", script, str(store.folder)],
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "b'old'\n"
    assert done.stderr.count("\n") == 1
    assert "File too large; the work goes on without it" in done.stderr
    assert [path.name for path in store.folder.iterdir()] == ["a"]


def test_two_processes_do_not_work_on_the_same(store: Store) -> None:
    script = (
        "import sys; from pathlib import Path; from aebench.store import Store\n"
        "with Store(Path(sys.argv[1]), 1).lock('train'): print('has it', flush=True)\n"
    )
    with store.lock("train"), store.lock("evaluate"):
        other = subprocess.Popen(
            [sys.executable, "-c", script, str(store.folder)],
            env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert other.stderr
        assert other.stdout
        assert other.stderr.readline() == "store: another process works on train; waiting for it to end\n"
        assert other.poll() is None
    assert other.communicate()[0] == "has it\n"


def test_files_become_one_and_files_again() -> None:
    files = {"model.safetensors": b"\x00\xff", "empty": b"", "a/b": b"text"}
    assert unpack_files(pack_files(files)) == files
