"""track: what the other stages wrote, mirrored into MLflow.

`python stages/track.py always` asks the store; `rebuild` first sets the project's own database aside; `watch`
shows the histories of runs in training until it is interrupted.
"""

import signal
import sys

import _stage

WHEN = ("if-needed", "always", "rebuild", "watch")


def track(when: str = "if-needed") -> None:
    """Sync; at once done where the store is known to hold all, unless `when` is another of `WHEN`."""
    from aebench.errors import UserError
    from aebench.tracking.address import limit_waiting, set_aside
    from aebench.tracking.sync import sync
    from aebench.tracking.sync_state import SyncState

    layout = _stage.LAYOUT
    if when not in WHEN:
        raise UserError(f"found {when!r}, allowed: {', '.join(WHEN)}")
    if when == "if-needed" and layout.params.is_file() and SyncState(layout).complete():
        return
    params = _stage.params()
    if when == "watch":
        limit_waiting()
        from aebench.interrupts import handled
        from aebench.tracking.watch import watch

        with handled(lambda number, _: sys.exit(128 + number), signal.SIGINT, signal.SIGTERM):
            watch(params, layout, log)  # whatever ends it, nothing is left RUNNING
        return
    if when == "rebuild" and (old := set_aside(layout)):
        log(f"the old database is {old}")
    sync(params, layout, log)


def log(line: str) -> None:
    """Print a line on standard error, at once."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    _stage.run(track)
