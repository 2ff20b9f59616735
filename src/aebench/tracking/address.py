"""Where the store is, and how long it is waited for; known without mlflow, whose import takes a second."""

import os
import re
import tempfile
from itertools import count
from pathlib import Path
from urllib.parse import unquote

from aebench.errors import DataError
from aebench.paths import Layout

# A server that does not answer costs seconds.
_LIMITS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
}

# What MLflow knows without any address.
_BY_NAME = ("databricks", "databricks-uc", "uc")


def limit_waiting() -> None:
    """Let MLflow give up soon; before it is imported, which an unnamed user's want of a home folder would prevent."""
    for name, value in _LIMITS.items():
        os.environ.setdefault(name, value)
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = tempfile.gettempdir()


def main_checkout(layout: Layout) -> Path:
    """The project's main checkout, also for a copy that DVC works in: its store is the one that is used."""
    return Path(os.environ.get("DVC_ROOT", layout.root)).resolve()


def tracking_uri(layout: Layout) -> str:
    """The store: `MLFLOW_TRACKING_URI`, or the project's own database."""
    return os.environ.get("MLFLOW_TRACKING_URI", "").strip() or own_database(main_checkout(layout))


def in_a_copy(layout: Layout) -> bool:
    """Whether this is a copy that DVC works in: the main checkout has results of its own."""
    return not layout.root.samefile(main_checkout(layout))


def own_database(home: Path) -> str:
    """The address of the database that belongs to a checkout."""
    return f"sqlite:///{home / 'mlflow.db'}"


def refusal(address: str) -> str:
    """Why there can be no store at this address, in one line; empty where there may be one."""
    if re.match(r"sqlite(\+\w+)?:/{0,3}(\?|:memory:|$)", address) or "mode=memory" in address:
        return "a database in memory is gone as soon as it is filled, allowed: sqlite:///FILE"
    if re.match(r"[\w.-]+:\d+(/|$)", address):
        return f"found no scheme, allowed: http://{address}"
    if address.startswith("file:") or not (re.match(r"[\w.+-]+:", address) or address in _BY_NAME):
        return "MLflow no longer writes to a folder, allowed: sqlite:///FILE, or http://HOST:PORT of a server"
    return ""


def without_password(text: str, address: str) -> str:
    """`text`, such as an error's or the address itself, without what the address has before its host."""
    for secret in _secrets(address):
        text = text.replace(secret, "")
    return text


def _secrets(address: str) -> list[str]:
    """User and password as they stand, the password alone, and its parts, as other readers of addresses part it."""
    match = re.match(r"[\w+.-]+://([^/].*@)", address)
    whole = match[1] if match else ""
    password = whole.rstrip("@").partition(":")[2]
    parts = [part for part in re.split("[@/]", password) if len(part) > 2]
    in_query = re.findall(r"[?&](?:password|passwd|pwd|token)=([^&]+)", address)
    every = [whole, password, unquote(password), *in_query, *map(unquote, in_query), *parts]
    return [secret for secret in every if secret]


def set_aside(layout: Layout) -> Path | None:
    """Rename the project's own database, so that the next sync fills a new one; its new name, or None without one.

    What it held of results that lie here no more, such as earlier experiments', is in the renamed file alone.

    Raises:
        DataError: `MLFLOW_TRACKING_URI` names a store that is not a file of this project.
    """
    database = main_checkout(layout) / "mlflow.db"
    if tracking_uri(layout) != own_database(database.parent):
        raise DataError("rebuild: MLFLOW_TRACKING_URI names the store, allowed: the project's own mlflow.db")
    if not database.exists():
        return None
    number = next(n for n in count(1) if not database.with_name(f"mlflow.db.{n}").exists())
    aside = database.with_name(f"mlflow.db.{number}")
    for old, new in zip(database_files(database), database_files(aside), strict=True):
        if old.exists():
            old.rename(new)
    return aside


def database_files(database: Path) -> list[Path]:
    """The files of an SQLite database, of which but the first need not be there."""
    return [database.with_name(database.name + ending) for ending in ("", "-journal", "-wal", "-shm")]
