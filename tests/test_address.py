"""What may stand in MLFLOW_TRACKING_URI, and what of it may be shown."""

import re

import pytest

from aebench.tracking.address import refusal, without_password


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("localhost:5000", "found no scheme, allowed: http://localhost:5000"),
        ("127.0.0.1:5000/", "found no scheme, allowed: http://127.0.0.1:5000/"),
        ("./mlruns", "MLflow no longer writes to a folder, allowed: sqlite:///FILE, or http://HOST:PORT of a server"),
        *((folder, "MLflow no longer writes to a folder, .*") for folder in ("mlruns", "/data/mlruns", "file:///data")),
        ("sqlite://", "a database in memory is gone as soon as it is filled, allowed: sqlite:///FILE"),
        *(
            (address, "a database in memory .*")
            for address in ("sqlite:", "sqlite:///", "sqlite:///:memory:", "sqlite:///?x=1", "sqlite+pysqlite://")
        ),
        ("sqlite:///file:x?mode=memory&uri=true", "a database in memory .*"),
        *(
            (address, "")
            for address in (
                *("sqlite:///mlflow.db", "sqlite:////a/b.db", "http://host:5000", "https://me:s@cret@host/path"),
                *("postgresql://me@host/db", "mysql+pymysql://me@host:3306/db", "databricks", "databricks://profile"),
                "mine-of-a-plugin://host",
            )
        ),
    ],
)
def test_an_address_where_no_store_can_be_is_refused(address: str, said: str) -> None:
    assert re.fullmatch(said, refusal(address))


@pytest.mark.parametrize(
    ("address", "secrets"),
    [
        ("http://me:secret@host:5000", ["secret"]),
        ("http://me:s@cret@host:5000", ["s@cret", "cret@host", "cret"]),
        ("http://me:s%40cret@host:5000/path", ["s%40cret", "s@cret"]),
        ("http://me:s/cret@host", ["s/cret", "cret@host"]),
        ("postgresql+psycopg://me:secret@host/db", ["secret"]),
        ("postgresql://host/db?user=me&password=secret&x=1", ["secret"]),
    ],
)
def test_a_password_is_never_shown(address: str, secrets: list[str]) -> None:
    for text in (address, f"no answer from {address}/api, {' or '.join(secrets)}"):
        shown = without_password(text, address)
        assert "host" in shown
        assert not [secret for secret in secrets if secret in shown]


def test_an_address_without_a_password_is_shown_as_it_is() -> None:
    for address in ("sqlite:////home/me@work/mlflow.db", "http://host:5000/path"):
        assert without_password(address, address) == address
