"""The store: a client of it, opened by one process at a time, and whatever it does wrong as one kind of error."""

import logging
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path

import mlflow
from alembic.util import CommandError
from filelock import FileLock, Timeout
from mlflow import MlflowClient
from mlflow.entities import Experiment
from mlflow.exceptions import MlflowException
from sqlalchemy import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from aebench.errors import FileError
from aebench.interrupts import handled
from aebench.paths import Layout
from aebench.tracking.address import (
    database_files,
    in_a_copy,
    main_checkout,
    own_database,
    refusal,
    tracking_uri,
    without_password,
)
from aebench.tracking.moved import follow
from aebench.tracking.timeouts import StoreTimeout, TimeoutProxy, deferred_interrupts

CELL, ROLE, SUPERSEDED, FAILED = "aebench.cell", "aebench.role", "aebench.superseded", "aebench.failed"
DIGEST, TRAINED_HERE, LIVE = "aebench.dataset_digest", "aebench.trained_here", "aebench.live"
PARENT, NOTE = "mlflow.parentRunId", "mlflow.note.content"
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}  # the UI opens on its training views
# Seconds for another sync to end. A copy that DVC deletes after an experiment has no later sync that tries again.
WAIT, WAIT_IN_A_COPY = 15, 1800
# What SQLite, SQLAlchemy and alembic say of a file that is no database of MLflow's, or is one no more.
DAMAGE = (
    *("file is not a database", "disk image is malformed", "no such table", "no such column"),
    *("already exists", "duplicate column"),
)


class StoreError(Exception):
    """The store cannot be reached or does not do as it is asked; one line."""


@contextmanager
def store_session(layout: Layout) -> Iterator[None]:
    """Inside the block no other process is at the checkout's store; whatever goes wrong there is a `StoreError`.

    Processes that create one database at the same time damage it. What is secret in the address stands in no error.

    Raises:
        FileError: the checkout may not be written to.
        StoreError: the store does something wrong, or another process is at it for too long.
    """
    folder, wait = Layout(main_checkout(layout)).scratch, WAIT_IN_A_COPY if in_a_copy(layout) else WAIT
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise FileError(f"{folder} cannot be written: {error.strerror}") from None
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow").setLevel(logging.CRITICAL)  # it prints what it raises, too, over many lines
    try:
        with FileLock(folder / "sync.lock", wait), deferred_interrupts():
            yield
    except Timeout:
        raise StoreError(f"another sync has been at work for {wait} seconds") from None
    except ImportError as error:  # of what the address asks for, as `postgresql:` does
        raise StoreError(f"its address needs a package that is not installed here: {error.name}") from error
    except (StoreTimeout, MlflowException, SQLAlchemyError, CommandError, OSError) as error:
        raise StoreError(without_password(_explained(error), tracking_uri(layout))[:300]) from error


def connect(layout: Layout) -> TimeoutProxy:
    """A client of the store that is not waited for long, unless it is a database, whose transactions end.

    The project's own database follows its checkout where that was moved.

    Raises:
        StoreError: there can be no store at this address.
    """
    address, home = tracking_uri(layout), main_checkout(layout)
    if reason := refusal(address):
        raise StoreError(reason)
    mlflow.set_tracking_uri(address)  # MLflow resolves a model's address by this one, whatever the client's is
    if not address.startswith("sqlite:"):
        # Of a database on a server the client asks at once, and again for minutes where nobody answers.
        return TimeoutProxy(TimeoutProxy(mlflow).MlflowClient(address))
    if address == own_database(home):
        follow(home / "mlflow.db", home / "mlruns")
    _make(make_url(address))
    return TimeoutProxy(MlflowClient(address), None)


def _make(address: URL) -> None:
    """A database with MLflow's tables, where none is: MLflow does not complete one that it has begun to make."""
    if address.database in (None, "", ":memory:") or (database := Path(address.database)).exists():
        return
    new = database.with_name(f"{database.name}.new")
    for part in database_files(new):
        part.unlink(missing_ok=True)  # what an interrupt left
    with handled(signal.SIG_DFL, signal.SIGINT, signal.SIGTERM):
        MlflowClient(address.set(database=str(new)).render_as_string(hide_password=False))
        new.rename(database)


def _explained(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if "database is locked" in text:
        return "its database is locked by another program"
    if "disk I/O error" in text or "disk is full" in text:
        return "its disk is full, or fails"
    if "locate revision" in text or _of_a_newer_mlflow(text):
        return (
            f"its database was last used by a newer MLflow than {version('mlflow')}, which is installed here; install "
            "that one, or call `python stages/track.py rebuild`, which sets the database aside and fills a new one"
        )
    if any(sign in text for sign in DAMAGE):
        return "its database is damaged; `python stages/track.py rebuild` sets it aside and fills a new one"
    return text


def _of_a_newer_mlflow(text: str) -> bool:
    """Whether MLflow, which calls every other schema out of date, says so of one that it does not know."""
    match = re.search(r"out-of-date database schema \(found version (\w+)", text)
    known = Path(mlflow.__file__).with_name("store") / "db_migrations" / "versions"
    return match is not None and not list(known.glob(f"{match[1]}_*.py"))


def experiment_id(client: TimeoutProxy, name: str, layout: Layout) -> str:
    """The id of the experiment of this name, whose artifacts lie beside the database, or where the server says.

    It is made, or made anew where it was deleted or its artifacts lie in an abandoned place.
    """
    artifacts = main_checkout(layout) / "mlruns" / name
    location = artifacts.as_uri() if tracking_uri(layout).startswith("sqlite:") else None
    there: Experiment | None = client.get_experiment_by_name(name)
    if there is not None:
        deleted = there.lifecycle_stage == "deleted"
        if not deleted and location in (None, there.artifact_location):
            return str(there.experiment_id)
        # MLflow stores artifact addresses absolute, and keeps the name of a deleted experiment taken.
        if deleted:
            client.restore_experiment(there.experiment_id)
        client.rename_experiment(there.experiment_id, f"{name} until {time.time():.0f}")
        client.delete_experiment(there.experiment_id)
    return str(client.create_experiment(name, location, EXPERIMENT_TAGS))


def mark_killed(client: TimeoutProxy, experiment: str, tag: str, cell: str) -> None:
    """End what claims to be at work on a cell and is not: a run that was begun, whether its id came back or not.

    Args:
        client: asked but for seconds; where it fails, nothing is raised.
        experiment: the id of the experiment.
        tag: the one that names a run's cell.
        cell: `DATASET/VARIANT` or `DATASET/VARIANT/seed-S`.
    """
    brief = client.with_short_timeout()
    with suppress(Exception, StoreTimeout):
        for run in brief.search_runs([experiment], f"attributes.status = 'RUNNING' and tags.`{tag}` = '{cell}'"):
            brief.set_terminated(run.info.run_id, "KILLED")
