"""An MLflow server on PostgreSQL, as docs/scaling.md shows it."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient
from results import CELLS, Results, tags
from servers import mlflow_server

pytestmark = pytest.mark.slow

# Debian keeps the programs of each version in a folder of its own.
FOLDERS = [str(path) for path in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
POSTGRES = shutil.which("pg_ctl", path=os.pathsep.join([*FOLDERS, os.environ.get("PATH", "")]))


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """The address of an empty database."""
    if POSTGRES is None:
        pytest.skip("needs PostgreSQL, Debian's package postgresql")
    pytest.importorskip("psycopg", reason="needs the package psycopg")
    as_other: tuple[str, ...] = ()
    # Not below pytest's folder, which nobody else may enter: PostgreSQL does not run as root, and Debian's package has
    # a user for it.
    with tempfile.TemporaryDirectory(prefix="postgres-") as data:
        if os.geteuid() == 0:
            shutil.chown(data, "postgres")
            as_other = ("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups")
        with closing(socket.create_server(("127.0.0.1", 0))) as reserved:
            port = reserved.getsockname()[1]

        def call(*command: str) -> None:
            subprocess.run([*as_other, *command], check=True, cwd=data, stdout=subprocess.DEVNULL)

        call(POSTGRES, "initdb", "--pgdata", data, "--options", "--auth=trust --username=me")
        listening = f"-c listen_addresses=127.0.0.1 -p {port} -c unix_socket_directories={data}"
        call(POSTGRES, "start", "--pgdata", data, "--wait", "--log", f"{data}/log", "--options", listening)
        try:
            yield f"postgresql://me@127.0.0.1:{port}/postgres"
        finally:
            call(POSTGRES, "stop", "--pgdata", data, "--mode", "immediate")


def test_a_server_on_postgresql_holds_what_a_file_holds(results: Results, database: str, tmp_path: Path) -> None:
    checkout, beside = (results.copy(tmp_path / name) for name in ("checkout", "beside"))
    beside.track()
    with mlflow_server(tmp_path, checkout.environment(), "--backend-store-uri", database) as port:
        address = f"http://127.0.0.1:{port}"
        assert "6 runs added" in checkout.track(MLFLOW_TRACKING_URI=address)
        assert held(MlflowClient(address)) == held(MlflowClient(beside.store))
        assert checkout.track(MLFLOW_TRACKING_URI=address) == ""
        assert "0 runs added, 6 already there" in checkout.track("always", MLFLOW_TRACKING_URI=address)
        assert held(MlflowClient(address)) == held(MlflowClient(beside.store))


def held(client: MlflowClient) -> dict[str, object]:
    """Of each run its parameters, metrics and files, by its cell; and the models."""
    experiment = client.get_experiment_by_name("aebench/digits")
    runs = {tags(run)["aebench.cell"]: run for run in client.search_runs([experiment.experiment_id])}
    assert set(CELLS) <= runs.keys()
    found: dict[str, object] = {
        cell: (run.data.params, run.data.metrics, {file.path for file in client.list_artifacts(run.info.run_id)})
        for cell, run in runs.items()
    }
    found["models"] = {model.name: sorted(model.aliases) for model in client.search_registered_models()}
    return found
