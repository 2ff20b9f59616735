"""A sync with stores that fail: a line of warning, a few seconds, and nothing lost."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path
from socket import create_connection, socket
from threading import Event, Thread, Timer
from types import SimpleNamespace

import pytest
from clock import slowdown
from results import CELLS, Results, tags
from servers import after, dripping, dying, failing, listening, mlflow_server, passing, pump, silent, since

from aebench.interrupts import handled
from aebench.tracking.timeouts import StoreTimeout, TimeoutProxy, deferred_interrupts

pytestmark = pytest.mark.slow

PROMISED = 20  # seconds, at most, that a store which does not do its part may cost a sync


@pytest.fixture
def checkout(results: Results, tmp_path: Path) -> Results:
    return results.copy(tmp_path / "checkout")


@pytest.fixture
def server(checkout: Results, tmp_path: Path) -> Iterator[int]:
    with mlflow_server(tmp_path, checkout.environment()) as port:
        yield port


def timed(checkout: Results, store: str) -> tuple[str, float]:
    """What a sync said, and how long it took."""
    started = time.monotonic()
    return checkout.track(MLFLOW_TRACKING_URI=store), time.monotonic() - started


def complete(checkout: Results, store: str | None = None) -> None:
    """Each run once, finished, with a key."""
    runs = checkout.runs(store)
    assert sorted(runs) == CELLS
    for (run,) in runs.values():
        assert run.info.status == "FINISHED"
        assert tags(run)["aebench.key"]


@pytest.mark.parametrize(
    "serve",
    [failing, silent, dripping],
)
def test_a_server_that_does_not_do_its_part_is_a_warning(checkout: Results, serve: Callable[[socket], None]) -> None:
    before = {path: path.read_bytes() for path in checkout.root.rglob("*") if path.is_file()}
    _, seconds_of_starting = timed(checkout, "http://127.0.0.1:9")  # where nobody listens
    with listening(serve) as port:
        said, seconds = timed(checkout, f"http://127.0.0.1:{port}")
    assert seconds - seconds_of_starting < PROMISED * slowdown()
    (line,) = said.splitlines()
    assert line.startswith(f"warning: MLflow at http://127.0.0.1:{port} was not synced, the next sync tries again: ")
    assert all(path.read_bytes() == content for path, content in before.items())


def test_a_database_on_a_server_that_is_not_there_is_a_warning(checkout: Results) -> None:
    pytest.importorskip("psycopg", reason="needs the package psycopg")
    _, seconds_of_starting = timed(checkout, "http://127.0.0.1:9")
    said, seconds = timed(checkout, "postgresql+psycopg://me:secret@127.0.0.1:9/mlflow")
    assert seconds - seconds_of_starting < PROMISED * slowdown()
    (line,) = said.splitlines()
    assert line.startswith("warning: MLflow at postgresql+psycopg://")
    assert "was not synced, the next sync tries again: " in line
    assert "secret" not in line


@pytest.mark.parametrize("allowance", [2_000, 40_000, 200_000])
def test_a_server_that_dies_in_the_middle_is_filled_by_a_later_sync(
    checkout: Results, server: int, allowance: int
) -> None:
    with listening(passing(server, after(allowance, dying))) as port:
        address = f"http://127.0.0.1:{port}"
        said = checkout.track(MLFLOW_TRACKING_URI=address)
    assert said.startswith(f"warning: MLflow at {address} was not synced")
    assert len(said.splitlines()) == 1
    with listening(passing(server), port):
        assert "runs added" in checkout.track(MLFLOW_TRACKING_URI=address)
        complete(checkout, address)
        assert checkout.track(MLFLOW_TRACKING_URI=address) == ""


def test_a_server_whose_artifacts_cannot_be_written_is_a_warning(checkout: Results, tmp_path: Path) -> None:
    """It serves none, and names a folder for them that is another machine's: here, one that nobody can make."""
    database = f"sqlite:///{tmp_path / 'server.db'}"
    elsewhere = ("--no-serve-artifacts", "--default-artifact-root", "file:///dev/null/artifacts")
    before = checkout.snapshot()
    with mlflow_server(tmp_path, checkout.environment(), "--backend-store-uri", database, *elsewhere) as port:
        address = f"http://127.0.0.1:{port}"
        for _ in range(2):
            (line,) = checkout.track(MLFLOW_TRACKING_URI=address).splitlines()
            assert line.startswith(f"warning: MLflow at {address} was not synced, the next sync tries again: ")
            assert "/dev/null/artifacts" in line
        assert "RUNNING" not in {run.info.status for runs in checkout.runs(address).values() for run in runs}
    assert checkout.snapshot() == before
    assert f"{len(CELLS)} runs added" in checkout.track()


def test_settings_longer_or_more_than_mlflow_takes_are_no_fault(checkout: Results) -> None:
    config = checkout.root / "runs" / "digits" / "ae" / "seed-0" / "config.json"
    found = json.loads(config.read_bytes())
    found["data"] |= {"of_500": "a" * 501, "of_6000": "b" * 6001} | {f"number_{n}": n for n in range(120)}
    config.write_text(json.dumps(found))
    assert f"{len(CELLS)} runs added" in checkout.track()
    (run,) = checkout.runs()["digits/ae/seed-0"]
    assert run.data.params["data.of_500"] == "a" * 501
    assert run.data.params["data.of_6000"].startswith("b" * 500)
    assert run.data.params["data.number_119"] == "119"


@pytest.mark.parametrize("request_of", [b"/runs/log-inputs", b"/runs/update", b"/registered-models/get"])
def test_a_server_that_falls_silent_in_the_middle_is_filled_by_a_later_sync(
    checkout: Results, server: int, request_of: bytes
) -> None:
    silent_since: list[float] = []

    def fall_silent(connection: socket) -> None:
        silent_since.append(time.monotonic())
        silent(connection)

    with listening(passing(server, since(request_of, fall_silent))) as port:
        address = f"http://127.0.0.1:{port}"
        said = checkout.track(MLFLOW_TRACKING_URI=address)
        assert time.monotonic() - silent_since[0] < PROMISED * slowdown()
    (line,) = said.splitlines()
    assert line.startswith(f"warning: MLflow at {address} was not synced")
    with listening(passing(server), port):
        assert "runs added" in checkout.track(MLFLOW_TRACKING_URI=address)
        complete(checkout, address)


@pytest.mark.parametrize(("asked", "reaches"), [(b"/runs/create", True), (b"/runs/update", False)])
def test_a_sync_that_is_interrupted_as_it_begins_or_ends_a_run_leaves_none_running(
    checkout: Results, server: int, asked: bytes, reaches: bool
) -> None:
    held = Event()

    def hold(part: bytes) -> Callable[[socket], None] | None:
        """Only the first such request is not answered, be it that it is not done or that its answer is lost."""
        if asked not in part or held.is_set():
            return None

        def lose(connection: socket) -> None:
            with create_connection(("127.0.0.1", server)) as onward:
                if reaches:
                    onward.sendall(part)
                    Thread(target=pump, args=(connection, onward), daemon=True).start()
                    assert onward.recv(1)
                held.set()
                silent(connection)

        return lose

    with listening(passing(server, hold)) as port:
        store = f"http://127.0.0.1:{port}"
        with checkout.start(sys.executable, "stages/track.py", MLFLOW_TRACKING_URI=store) as sync:
            assert held.wait(180)
            os.kill(sync.pid, signal.SIGINT)
            assert "Traceback" not in sync.communicate(timeout=180)[0]
        assert sync.returncode == -signal.SIGINT
    (runs,) = checkout.runs(f"http://127.0.0.1:{server}").values()
    assert [run.info.status for run in runs] == ["KILLED"]


def listening_to_interrupts() -> AbstractContextManager[None]:
    """A shell starts what runs in its background with interrupts ignored, and so the tests."""
    return handled(signal.default_int_handler, signal.SIGINT)


def test_an_interrupt_waits_for_the_end_of_a_transaction_and_is_not_lost() -> None:
    done: list[str] = []

    def transaction(name: str) -> None:
        signal.raise_signal(signal.SIGINT)
        done.append(name)

    store = TimeoutProxy(SimpleNamespace(transaction=transaction), None)

    def interrupted() -> None:
        with deferred_interrupts():
            store.transaction("first")
            with pytest.raises(KeyboardInterrupt):
                store.transaction("second")
            store.with_short_timeout().transaction("what is done all the same")

    with listening_to_interrupts(), pytest.raises(KeyboardInterrupt):
        interrupted()
    with deferred_interrupts():  # it is over
        TimeoutProxy(done, None).append("another block")
    assert done == ["first", "what is done all the same", "another block"]


def test_an_interrupt_does_not_wait_for_a_server() -> None:
    def interrupted() -> None:
        with deferred_interrupts():
            Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
            TimeoutProxy(time, seconds=60).sleep(50)

    started = time.monotonic()
    with listening_to_interrupts(), pytest.raises(KeyboardInterrupt):
        interrupted()
    assert time.monotonic() - started < 40


def test_an_answer_is_waited_for_only_so_long() -> None:
    class Store:
        def ask(self, seconds: float) -> str:
            try:
                time.sleep(seconds)
            except Exception:
                return "mistaken for an answer"
            return "answer"

    patient = TimeoutProxy(Store(), seconds=0.2)
    assert patient.ask(0) == "answer"
    with pytest.raises(StoreTimeout, match=r"no answer within 0\.2 seconds"):
        patient.ask(60)
    assert patient.ask(0) == "answer"


def test_a_database_that_was_never_completed_is_made_anew(checkout: Results) -> None:
    begun = checkout.root / "mlflow.db.new"
    with checkout.start(sys.executable, "stages/track.py") as sync:
        while not begun.exists():
            with pytest.raises(subprocess.TimeoutExpired):
                sync.wait(0.001)
        sync.kill()
        sync.wait()
    assert begun.exists()
    assert f"{len(CELLS)} runs added" in checkout.track()
    complete(checkout)
    assert not begun.exists()


def test_a_locked_database_is_a_warning(checkout: Results) -> None:
    checkout.track()
    shutil.rmtree(checkout.root / ".aebench" / "sync")
    with closing(sqlite3.connect(checkout.root / "mlflow.db", isolation_level=None)) as other:
        other.execute("begin exclusive")
        said, seconds = timed(checkout, checkout.store)
        assert seconds < 2 * PROMISED * slowdown()  # with its start
    (line,) = said.splitlines()
    assert line.endswith("tries again: its database is locked by another program")
    assert "0 runs added, 6 already there" in checkout.track()


def test_a_full_disk_is_a_warning_and_a_later_sync_completes_it(checkout: Results) -> None:
    """A limit on the size of files stands for the disk: enough for a new database, not for all runs."""
    checkout.track()
    held = (checkout.root / "mlflow.db").stat().st_size
    for name in ("mlflow.db", "mlruns", ".aebench/sync"):
        path = checkout.root / name
        path.unlink() if path.is_file() else shutil.rmtree(path)
    limit = f"ulimit -f {held // 1024 - 20}; exec '{sys.executable}' stages/track.py"
    done = subprocess.run(
        ["bash", "-c", limit],
        cwd=checkout.root,
        env=checkout.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    line = done.stderr.rstrip()
    assert line.endswith("tries again: its disk is full, or fails")
    assert line.startswith(f"warning: MLflow at {checkout.store} was not synced, the next sync tries again: ")
    assert "runs added" in checkout.track()
    complete(checkout)


@pytest.mark.parametrize("damage", ["text", "page"])
def test_a_damaged_database_is_named_and_rebuilt_on_request(checkout: Results, damage: str) -> None:
    database = checkout.root / "mlflow.db"
    checkout.track()
    content = bytearray(database.read_bytes())
    content[:] = b"this is no database" if damage == "text" else content[:4096] + bytes(len(content) - 4096)
    database.write_bytes(content)
    (line,) = checkout.track().splitlines()
    assert line.startswith(f"warning: MLflow at {checkout.store} was not synced")
    assert line.endswith("its database is damaged; `python stages/track.py rebuild` sets it aside and fills a new one")
    said = checkout.track("rebuild").splitlines()
    assert said[0] == f"the old database is {database}.1"
    assert "6 runs added" in said[1]
    assert Path(f"{database}.1").read_bytes() == bytes(content)
    complete(checkout)
    assert checkout.track() == ""


def test_rebuild_is_for_the_projects_own_database(checkout: Results) -> None:
    done = checkout.python("stages/track.py", "rebuild", MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert (done.returncode, done.stderr.splitlines()) == (
        1,
        ["error: rebuild: MLFLOW_TRACKING_URI names the store, allowed: the project's own mlflow.db"],
    )
    done = checkout.python("stages/track.py", "rebiuld")
    assert (done.returncode, done.stderr.splitlines()) == (
        1,
        ["error: found 'rebiuld', allowed: if-needed, always, rebuild, watch"],
    )


def test_two_syncs_at_once_add_each_run_once(checkout: Results) -> None:
    command = [sys.executable, "stages/track.py"]
    both = [
        subprocess.Popen(command, cwd=checkout.root, env=checkout.environment(), stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = sorted(one.communicate()[1].split(": ", 1)[-1] for one in both)
    assert [one.returncode for one in both] == [0, 0]
    complete(checkout)
    assert "6 runs added, 0 already there" in said[1] or "another sync" in said[1]
    assert checkout.track() == ""


def test_a_copy_syncs_to_the_store_of_the_main_checkout(checkout: Results, tmp_path: Path) -> None:
    """As in `dvc exp run --temp`; models and all."""
    copy = checkout.copy(tmp_path / "copy")
    said = copy.track(DVC_ROOT=str(checkout.root))
    assert said.splitlines() == [f"MLflow at {checkout.store}: {len(CELLS)} runs added, 0 already there"]
    complete(checkout)
    assert not (copy.root / "mlflow.db").exists()


def test_a_sync_that_cannot_be_noted_is_a_warning(checkout: Results) -> None:
    (checkout.root / ".aebench" / "sync").write_text("in the way of the folder")
    warning, done = checkout.track().splitlines()
    assert warning.startswith(f"warning: {checkout.root}/.aebench/sync/")
    assert "was not written, the next sync asks the store again: " in warning
    assert "6 runs added" in done
    assert "0 runs added, 6 already there" in checkout.track()


def test_data_that_is_missing_is_named_with_its_stage(checkout: Results) -> None:
    data = checkout.root / "data" / "digits.safetensors"
    data.unlink()
    done = checkout.python("stages/track.py")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [f"error: {data} is missing; run `dvc repro fetch@digits`"]


def test_results_that_cannot_be_read_are_one_line(checkout: Results) -> None:
    unreadable = checkout.root / "reports" / "metrics" / "digits" / "folder.json"
    unreadable.mkdir()
    done = checkout.python("stages/track.py")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [f"error: {unreadable} cannot be read: Is a directory"]


@pytest.mark.parametrize("what", ["always", "watch"])
def test_a_checkout_that_may_not_be_written_to_is_one_line(checkout: Results, what: str) -> None:
    shutil.rmtree(checkout.root / ".aebench")
    checkout.root.chmod(0o555)
    done = checkout.run(*checkout.unprivileged(sys.executable, "stages/track.py", what))
    assert done.returncode == 1
    assert done.stderr.splitlines() == [f"error: {checkout.root}/.aebench cannot be written: Permission denied"]
