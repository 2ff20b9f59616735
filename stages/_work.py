"""What the stages with heavy work share: its results, new or known before."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import _stage

if TYPE_CHECKING:
    from aebench.execution.jobs import ResultCache
    from aebench.store import Store

T = TypeVar("T")


def store() -> "Store":
    """What was computed before, and is kept."""
    from aebench.store import Store  # imports NumPy, which must come after the numerics are limited

    return Store(_stage.LAYOUT.store, _stage.params().execution.store_megabytes * 1_000_000)


def data_sha256(dataset: str) -> str:
    """The hash of a data set's file.

    Raises:
        DataError: it is missing.
    """
    from aebench.errors import DataError
    from aebench.fingerprint import digest

    try:
        return digest(_stage.LAYOUT.data(dataset).read_bytes())
    except FileNotFoundError as error:
        raise DataError(f"{error.filename} is missing; run `dvc repro fetch@{dataset}`") from None


@contextmanager
def results(
    jobs: Mapping[str, Callable[..., T]], cache: "ResultCache[T]", *cell: str, unit: str
) -> Iterator[dict[str, T]]:
    """What this stage's jobs give for `cell`, a data set and perhaps a variant, by name; to be written in the block.

    Another process that works on the same is waited for until it has written, and its results are taken.

    Raises:
        UserError: a job failed, or the workers are out of reach.
    """
    from aebench.execution.jobs import run_all

    params, stage = _stage.params(), _stage.name()
    with cache.store.lock("-".join((stage, *cell))):
        yield run_all(
            jobs,
            _stage.LAYOUT.data(cell[0]),
            execution=params.execution,
            numerics=params.numerics,
            device=params.device,
            unit=unit,
            record=_stage.LAYOUT.timing(stage, *cell),
            cache=cache,
        )
