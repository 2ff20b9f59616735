"""Whether there is something to mirror, found out without mlflow."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from aebench.errors import DataError
from aebench.paths import HISTORY, Layout
from aebench.tracking.address import main_checkout, tracking_uri
from aebench.tracking.keys import KEY, sha256

# Keys with the names of the experiments and models that they stand under, and the models' aliases: whatever somebody
# deletes or renames in MLflow's UI is missed here.
_HELD = (
    f"""select experiments.name, tags.value from tags join runs on runs.run_uuid = tags.run_uuid
        join experiments on experiments.experiment_id = runs.experiment_id where tags.key = '{KEY}'
        and runs.lifecycle_stage = 'active' and experiments.lifecycle_stage = 'active'""",
    f"""select versions.name, versions.version, tags.value from model_versions versions join model_version_tags tags
        on tags.name = versions.name and tags.version = versions.version where tags.key = '{KEY}'
        and versions.current_stage != 'Deleted_Internal'""",
    "select name, alias, version from registered_model_aliases",
    "select name, artifact_location from experiments",  # it is another's where the checkout was moved and is back
)


class SyncState:
    """A note of what a store is known to hold, so that a sync with nothing to do need not ask it."""

    def __init__(self, layout: Layout) -> None:
        """Of the results that lie in `layout` now.

        Raises:
            DataError: one of them cannot be read.
        """
        self.address = tracking_uri(layout)
        address, _, _ = self.address.partition("?")
        self.database = Path(address.removeprefix("sqlite:///")) if address.startswith("sqlite:") else None
        self.artifacts = main_checkout(layout) / "mlruns"
        self.path = layout.sync_state / f"{sha256(self.address.encode(), bytes(main_checkout(layout)))[:16]}.json"
        inputs = [layout.params, *sorted((layout.reports / "metrics").rglob("*.json"))]
        inputs += sorted(layout.root.glob(f"runs/*/*/*/{HISTORY}"))
        try:
            self._fingerprint = sha256(*(path.read_bytes() for path in inputs))
        except OSError as error:
            raise DataError(f"{error.filename} cannot be read: {error.strerror}") from None

    def _note(self) -> dict[str, Any]:
        return {"fingerprint": self._fingerprint, "store": self._held()}

    def _held(self) -> list[list[str]] | str:
        """What a database holds, read without mlflow; a server is believed to keep what it got."""
        if self.database is None:
            return self.address
        if not (self.database.is_file() and self.artifacts.is_dir()):
            return []
        with closing(sqlite3.connect(f"file:{quote(str(self.database))}?mode=ro", timeout=1, uri=True)) as database:
            rows = [list(map(str, row)) for query in _HELD for row in database.execute(query)]
        return sorted(rows)

    def _files(self) -> set[str]:
        """The files of a database's artifacts."""
        return {str(path.relative_to(self.artifacts)) for path in self.artifacts.rglob("*")} if self.database else set()

    def complete(self) -> bool:
        """Whether the store holds what lies here, as of the last sync from here."""
        try:
            note = json.loads(self.path.read_bytes())
            files = set(note.pop("files"))
            known = bool(note["store"]) and note == self._note()  # of a database that is not there nothing is known
            return known and files <= self._files()  # who loads a model leaves some beside it
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, sqlite3.Error):
            return False

    def remember(self) -> None:
        """Note that the store holds all that lies here."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self._note() | {"files": sorted(self._files())}))
