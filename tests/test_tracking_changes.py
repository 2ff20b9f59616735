"""What somebody changes in a store, or moves, comes back with the next sync, each once."""

import re
import shutil
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import ViewType
from results import CELLS, Results, tags
from test_tracking import spoil

pytestmark = pytest.mark.slow

MODEL = "aebench-digits-cvae"
FILES = {"model.safetensors", "config.json", "history.csv", "pictures"}


@pytest.fixture(scope="module")
def synced(results: Results, tmp_path_factory: pytest.TempPathFactory) -> Results:
    copy = results.copy(tmp_path_factory.mktemp("changes") / "checkout")
    assert "6 runs added" in copy.track()
    return copy


def check(checkout: Results) -> None:
    """All results are there, each once, with files, and the current models can be loaded; the next sync knows it."""
    client = MlflowClient(checkout.store)
    experiment = client.get_experiment_by_name("aebench/digits")
    assert experiment.lifecycle_stage == "active"
    runs = [run for run in client.search_runs([experiment.experiment_id]) if "aebench.key" in run.data.tags]
    current = [run for run in runs if tags(run)["aebench.superseded"] == "false"]
    assert sorted(tags(run)["aebench.cell"] for run in current) == CELLS
    for run in runs:
        if "/seed-" in tags(run)["aebench.cell"]:
            assert {file.path for file in client.list_artifacts(run.info.run_id)} == FILES
    mlflow.set_tracking_uri(checkout.store)
    images = np.zeros((2, 64), np.float32)
    assert mlflow.pyfunc.load_model(f"models:/{MODEL}@current").predict(images).shape == (2, 64)
    assert (
        tags(client.get_run(client.get_model_version_by_alias(MODEL, "current").run_id))["aebench.superseded"]
        == "false"
    )
    assert checkout.track() == ""


def some_run(client: MlflowClient) -> str:
    """The id of a seed's run, whose model is registered."""
    return str(client.get_model_version_by_alias(MODEL, "current").run_id)


def experiment(client: MlflowClient) -> str:
    return str(client.get_experiment_by_name("aebench/digits").experiment_id)


def files_of_a_run(client: MlflowClient) -> None:
    shutil.rmtree(client.get_run(some_run(client)).info.artifact_uri.removeprefix("file://"))


def one_file(client: MlflowClient) -> None:
    Path(client.get_run(some_run(client)).info.artifact_uri.removeprefix("file://"), "config.json").unlink()


def files_of_a_model(client: MlflowClient) -> None:
    model = client.get_model_version_by_alias(MODEL, "current").source.removeprefix("models:/")
    shutil.rmtree(client.get_logged_model(model).artifact_location.removeprefix("file://"))


CHANGES: dict[str, list[Callable[[MlflowClient], object]]] = {
    "files of a run and of a model, an alias": [
        files_of_a_run,
        files_of_a_model,
        lambda client: client.delete_registered_model_alias(MODEL, "current"),
    ],
    "a file, a version, the name of the experiment": [
        one_file,
        lambda client: client.delete_model_version(MODEL, client.get_model_version_by_alias(MODEL, "current").version),
        lambda client: client.rename_experiment(experiment(client), "my nice name"),
    ],
    "a run and its model": [
        lambda client: client.delete_run(some_run(client)),
        lambda client: client.delete_registered_model(MODEL),
    ],
    "a tag and the name of a model": [
        lambda client: client.delete_tag(some_run(client), "aebench.key"),
        lambda client: client.rename_registered_model(MODEL, "my-nice-name"),
    ],
    "the experiment": [lambda client: client.delete_experiment(experiment(client))],
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_somebody_deletes_or_renames_comes_back(synced: Results, what: str) -> None:
    for change in CHANGES[what]:
        change(MlflowClient(synced.store))
    assert synced.track().startswith(f"MLflow at {synced.store}: ")
    check(synced)


def test_all_files_come_back(synced: Results) -> None:
    shutil.rmtree(synced.root / "mlruns")
    synced.track()
    check(synced)


def test_a_checkout_that_is_moved_takes_its_history_along(results: Results, tmp_path: Path) -> None:
    """And back again; nothing is deleted on the way, and what is superseded keeps its files."""
    checkout = results.copy(tmp_path / "checkout")
    checkout.track()
    spoil(checkout)
    assert "2 runs added" in checkout.track()
    for place in (tmp_path / "else where" / "under mlruns", tmp_path / "checkout"):
        place.parent.mkdir(exist_ok=True)
        checkout.root.rename(place)
        checkout = Results(place)
        assert "0 runs added, 6 already there" in checkout.track()
        check(checkout)
        client = MlflowClient(checkout.store)
        found = client.search_experiments(view_type=ViewType.ALL)
        assert sorted(each.name for each in found) == ["Default", "aebench/digits"]
        assert len(client.search_runs([experiment(client)])) == 8


def test_a_database_of_a_newer_mlflow_is_not_called_damaged(results: Results, tmp_path: Path) -> None:
    checkout = results.copy(tmp_path / "checkout")
    checkout.track()
    with closing(sqlite3.connect(checkout.root / "mlflow.db")) as database, database:
        database.execute("update alembic_version set version_num = 'ffffffffffff'")
    (line,) = checkout.track("always").splitlines()
    assert f"its database was last used by a newer MLflow than {mlflow.__version__}, which is installed here" in line


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("localhost:5000", "found no scheme, allowed: http://localhost:5000"),
        (
            "mysql+pymysql://me:secret@127.0.0.1:9/mlflow",
            "its address needs a package that is not installed here: pymysql",
        ),
        ("http://me:s@cret@127.0.0.1:9", "API request to http://127.0.0.1:9/api/2.0/mlflow/.*"),
    ],
)
def test_an_address_without_a_store_is_a_warning(results: Results, tmp_path: Path, address: str, said: str) -> None:
    checkout = results.copy(tmp_path / "checkout")
    (line,) = checkout.track("always", MLFLOW_TRACKING_URI=address).splitlines()
    assert re.fullmatch(rf"warning: MLflow at \S+ was not synced, the next sync tries again: {said}", line)
    assert "cret" not in line


def test_a_user_without_a_name_or_a_home_syncs(results: Results, tmp_path: Path) -> None:
    """As where a container is started with an id that nobody has."""
    checkout = results.copy(tmp_path / "checkout")
    (tmp_path / "sitecustomize.py").write_text("import pwd\ndef nobody(*_): raise KeyError\npwd.getpwuid = nobody\n")
    unnamed = ("env", *(f"--unset={name}" for name in ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME")))
    done = checkout.run(*unnamed, sys.executable, "stages/track.py", PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "6 runs added" in done.stderr
