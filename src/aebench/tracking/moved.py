"""A checkout that was moved, or is seen under another path: MLflow stores the addresses of artifacts absolute."""

import sqlite3
from contextlib import closing
from pathlib import Path

# Where MLflow keeps such addresses, and has no function that changes them.
_ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
)


def follow(database: Path, artifacts: Path) -> None:
    """Let the addresses in the project's own database follow its folder of artifacts, history included.

    Whatever speaks against it is left to MLflow, which says so when the database is opened.

    Args:
        database: the project's own; it need not be there.
        artifacts: the folder `mlruns` that lies beside it now.
    """
    if not database.is_file():
        return
    here = artifacts.as_uri()
    try:
        with closing(sqlite3.connect(database)) as connection, connection:
            locations = connection.execute("select artifact_location from experiments").fetchall()
            # An experiment's is .../mlruns/EXPERIMENT/DATASET.
            tops = {str(location).rsplit("/", 2)[0] for (location,) in locations}
            for top in sorted(top for top in tops - {here} if top.endswith(f"/{artifacts.name}")):
                for table, column in _ADDRESSES:
                    connection.execute(
                        f"update {table} set {column} = ? || substr({column}, ?) where substr({column}, 1, ?) = ?",
                        (here, len(top) + 1, len(top) + 1, f"{top}/"),
                    )
    except sqlite3.Error:
        return
