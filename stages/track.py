"""track: what the other stages wrote, mirrored into MLflow.

`python stages/track.py always` asks the store; `rebuild` first sets the project's own database aside.
"""

import sys

import _stage

WHEN = ("if-needed", "always", "rebuild")


def track(when: str = "if-needed") -> None:
    """Sync; at once done where the store is known to hold all, unless `when` is `always` or `rebuild`."""
    from aebench.errors import UserError
    from aebench.tracking.sync import SyncState, set_aside, sync

    layout = _stage.LAYOUT
    if when not in WHEN:
        raise UserError(f"found {when!r}, allowed: {', '.join(WHEN)}")
    if when == "if-needed" and layout.params.is_file() and SyncState(layout).complete():
        return
    params = _stage.params()
    if when == "rebuild" and (old := set_aside(layout)):
        print(f"the old database is {old}", file=sys.stderr)
    sync(params, layout, lambda line: print(line, file=sys.stderr))


if __name__ == "__main__":
    _stage.run(track)
