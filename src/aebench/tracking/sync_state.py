"""Whether there is something to mirror, found out without mlflow."""

import json
from pathlib import Path
from typing import Any

from aebench.errors import DataError
from aebench.paths import HISTORY, Layout
from aebench.tracking.address import main_checkout, tracking_uri
from aebench.tracking.keys import sha256


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

    def _held(self) -> str:
        """What stands for all that a store holds: a database's bytes; a server is believed to keep what it got."""
        if self.database is None:
            return self.address
        return sha256(self.database.read_bytes()) if self.database.is_file() and self.artifacts.is_dir() else ""

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
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return False

    def remember(self) -> None:
        """Note that the store holds all that lies here."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self._note() | {"files": sorted(self._files())}))
