"""Servers on loopback that do to a client what networks do."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

ANSWER_500 = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\n\r\nsick"


@contextmanager
def listening(serve: Callable[[socket.socket], None], port: int = 0) -> Iterator[int]:
    """A port whose every connection is given to `serve`, in a thread of its own."""
    listener = socket.create_server(("127.0.0.1", port))
    stopped = threading.Event()

    def accept() -> None:
        while not stopped.is_set():
            with suppress(OSError):
                connection, _ = listener.accept()
                threading.Thread(target=quietly, args=(connection,), daemon=True).start()

    def quietly(connection: socket.socket) -> None:
        with suppress(OSError), closing(connection):
            serve(connection)

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        stopped.set()
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def silent(connection: socket.socket) -> None:
    """Takes everything, answers nothing."""
    while connection.recv(65536):
        pass


def dripping(connection: socket.socket) -> None:
    """Answers a byte a second, without end."""
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while True:
        connection.sendall(b" ")
        time.sleep(1)


def failing(connection: socket.socket) -> None:
    """Answers 500 to whatever is asked."""
    while connection.recv(65536):
        connection.sendall(ANSWER_500)


Fate = Callable[[socket.socket], None]


def dying(connection: socket.socket) -> None:
    """Is gone at once."""
    connection.shutdown(socket.SHUT_RDWR)


def passing(target: int, fate: Callable[[bytes], Fate | None] = lambda part: None) -> Callable[[socket.socket], None]:
    """Hands everything on to another port, until `fate`, which sees each part before, has something else in mind."""

    def serve(connection: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", target)) as onward:
            threading.Thread(target=pump, args=(onward, connection), daemon=True).start()
            while part := connection.recv(4096):
                if end := fate(part):
                    return end(connection)
                onward.sendall(part)

    return serve


def after(allowance: int, end: Fate) -> Callable[[bytes], Fate | None]:
    """When so many bytes were sent, `end` for every connection."""
    sent = 0

    def fate(part: bytes) -> Fate | None:
        nonlocal sent
        sent += len(part)
        return end if sent > allowance else None

    return fate


def since(text: bytes, end: Fate) -> Callable[[bytes], Fate | None]:
    """From the first request that has this text on, `end` for every connection."""
    begun = threading.Event()

    def fate(part: bytes) -> Fate | None:
        if text in part:
            begun.set()
        return end if begun.is_set() else None

    return fate


def pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while part := source.recv(65536):
            target.sendall(part)
        target.shutdown(socket.SHUT_WR)


def answers(server: subprocess.Popen[Any], port: int) -> bool:
    """Whether MLflow's server comes to answer on that port; it does not when its process ends."""
    while server.poll() is None:
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
            return True
        with suppress(subprocess.TimeoutExpired):
            server.wait(0.1)  # to ask without a pause would take the time that the server needs to begin
    return False


@contextmanager
def mlflow_server(folder: Path, environment: dict[str, str], *options: str) -> Iterator[int]:
    """A real MLflow server with its database in `folder`."""
    with closing(socket.create_server(("127.0.0.1", 0))) as reserved:
        port = reserved.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    store = options or ("--backend-store-uri", f"sqlite:///{folder / 'server.db'}")
    command += [*store, "--artifacts-destination", str(folder / "artifacts")]
    with (folder / "server.log").open("w") as log:
        environment = {**environment, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        server = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            assert answers(server, port), (folder / "server.log").read_text()
            yield port
        finally:
            os.killpg(server.pid, signal.SIGKILL)  # with its workers, and without waiting for open connections
            server.wait()
