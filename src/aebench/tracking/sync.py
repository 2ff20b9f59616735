"""When there is something to mirror, and where to."""

import hashlib
import json
import os
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

from aebench.config import Params
from aebench.errors import DataError
from aebench.paths import HISTORY, Layout

# A server that does not answer costs seconds.
_QUICK = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
}


def sha256(*parts: bytes) -> str:
    """One hash for several pieces, whose borders count."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()


def quick() -> None:
    """Let MLflow give up soon; before it is imported."""
    for name, value in _QUICK.items():
        os.environ.setdefault(name, value)


def home(layout: Layout) -> Path:
    """The project's main checkout, also for a copy that DVC works in: its store is the one that is used."""
    return Path(os.environ.get("DVC_ROOT", layout.root)).resolve()


def address(layout: Layout) -> str:
    """The store: `MLFLOW_TRACKING_URI`, or the project's own database."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home(layout) / 'mlflow.db'}"


class SyncState:
    """A note of what a store is known to hold, so that a sync with nothing to do need not ask it."""

    def __init__(self, layout: Layout) -> None:
        self.address = address(layout)
        self.database = Path(self.address.removeprefix("sqlite:///")) if self.address.startswith("sqlite:") else None
        self.artifacts = home(layout) / "mlruns"
        self.path = layout.sync_state / f"{sha256(self.address.encode(), bytes(home(layout)))[:16]}.json"
        inputs = [layout.params, *sorted((layout.reports / "metrics").rglob("*.json"))]
        inputs += sorted(layout.root.glob(f"runs/*/*/*/{HISTORY}"))
        self._fingerprint = sha256(*(path.read_bytes() for path in inputs))

    def _note(self) -> dict[str, Any]:
        return {"fingerprint": self._fingerprint, "store": self._keys_held()}

    def _keys_held(self) -> list[str] | str:
        """The keys of a database's runs and models, read without mlflow; a server is believed to keep what it got."""
        if self.database is None:
            return self.address
        if not (self.database.is_file() and self.artifacts.is_dir()):
            return []
        query = (
            "select tags.value from tags join runs on runs.run_uuid = tags.run_uuid "
            "where tags.key = 'aebench.key' and runs.lifecycle_stage = 'active' "
            "union all select value from model_version_tags where key = 'aebench.key' order by 1"
        )
        with closing(sqlite3.connect(f"file:{quote(str(self.database))}?mode=ro", timeout=1, uri=True)) as database:
            return [str(key) for (key,) in database.execute(query)]

    def complete(self) -> bool:
        """Whether the store holds what lies here, as of the last sync from here."""
        try:
            return bool(json.loads(self.path.read_bytes()) == self._note())
        except (OSError, ValueError, RecursionError, sqlite3.Error):
            return False

    def remember(self) -> None:
        """Note that the store holds all that lies here."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self._note()))


def set_aside(layout: Layout) -> Path | None:
    """Rename the project's own database, so that the next sync fills a new one; its new name, or None without one.

    What it held of results that lie here no more, such as earlier experiments', is in the renamed file alone.

    Raises:
        DataError: `MLFLOW_TRACKING_URI` names a store that is not a file of this project.
    """
    database = home(layout) / "mlflow.db"
    if address(layout) != f"sqlite:///{database}":
        raise DataError("rebuild: MLFLOW_TRACKING_URI names the store, allowed: the project's own mlflow.db")
    if not database.exists():
        return None
    number = next(n for n in count(1) if not database.with_name(f"mlflow.db.{n}").exists())
    aside = database.with_name(f"mlflow.db.{number}")
    for old, new in zip(parts(database), parts(aside), strict=True):
        if old.exists():
            old.rename(new)
    return aside


def parts(database: Path) -> list[Path]:
    """The files of an SQLite database, of which but the first need not be there."""
    return [database.with_name(database.name + ending) for ending in ("", "-journal", "-wal", "-shm")]


def sync(params: Params, layout: Layout, say: Callable[[str], None]) -> bool:
    """Mirror the results into MLflow; whether the store now holds them all.

    A store that cannot be reached is a warning, not an error: the next sync tries again.

    Args:
        params: names the cells and the experiment.
        layout: where the results lie.
        say: gets a line about what was done.

    Raises:
        DataError: a result is missing or damaged.
        FileError: the checkout may not be written to.
    """
    # Here, since a sync with nothing to do needs neither, and NumPy's limits are set by the check of params.yaml.
    from aebench.tracking.runs import found

    cells = found(params, layout)
    quick()
    from aebench.tracking.mirror import StoreError, mirror  # imports mlflow, which takes a second

    state = SyncState(layout)
    shown = re.sub(r"//[^/@]*@", "//", state.address)  # without a password
    try:
        added, kept = mirror(cells, params.tracking.experiment, state.address, home(layout), layout)
    except StoreError as error:
        say(f"warning: MLflow at {shown} was not synced, the next sync tries again: {error}")
        return False
    try:
        state.remember()
    except (OSError, sqlite3.Error) as error:
        say(f"warning: {state.path} was not written, the next sync asks the store again: {error}")
    say(f"MLflow at {shown}: {added} runs added, {kept} already there")
    return True
