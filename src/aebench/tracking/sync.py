"""A sync from beginning to end: what lies here, to the store, and a line about it."""

from collections.abc import Callable

from aebench.config import Params
from aebench.paths import Layout
from aebench.tracking.address import limit_waiting, without_password
from aebench.tracking.sync_state import SyncState


def sync(params: Params, layout: Layout, log: Callable[[str], None]) -> None:
    """Mirror the results into MLflow.

    A store that cannot be reached is a warning, not an error: the next sync tries again.

    Args:
        params: names the cells and the experiment.
        layout: where the results lie.
        log: gets a line about what was done.

    Raises:
        DataError: a result is missing or damaged.
        FileError: the checkout may not be written to.
    """
    # Here, since a sync with nothing to do needs neither, and NumPy's limits are set by the check of params.yaml.
    from aebench.tracking.runs import read_runs

    cells = read_runs(params, layout)
    limit_waiting()
    from aebench.tracking.client import StoreError  # imports mlflow, which takes a second
    from aebench.tracking.mirror import mirror

    state = SyncState(layout)
    shown = without_password(state.address, state.address)
    try:
        added, kept = mirror(cells, params.tracking.experiment, layout)
    except StoreError as error:
        log(f"warning: MLflow at {shown} was not synced, the next sync tries again: {error}")
        return
    try:
        state.remember()
    except OSError as error:
        log(f"warning: {state.path} was not written, the next sync asks the store again: {error}")
    log(f"MLflow at {shown}: {added} runs added, {kept} already there")
