"""Whether there is something to mirror, found out without mlflow."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from aebench.paths import HISTORY, Layout
from aebench.tracking.address import main_checkout, tracking_uri
from aebench.tracking.keys import KEY, sha256


class SyncState:
    """A note of what a store is known to hold, so that a sync with nothing to do need not ask it."""

    def __init__(self, layout: Layout) -> None:
        self.address = tracking_uri(layout)
        self.database = Path(self.address.removeprefix("sqlite:///")) if self.address.startswith("sqlite:") else None
        self.artifacts = main_checkout(layout) / "mlruns"
        self.path = layout.sync_state / f"{sha256(self.address.encode(), bytes(main_checkout(layout)))[:16]}.json"
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
            f"where tags.key = '{KEY}' and runs.lifecycle_stage = 'active' "
            f"union all select value from model_version_tags where key = '{KEY}' order by 1"
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
