"""track: what the other stages wrote, mirrored into MLflow; `python stages/track.py always` asks the store."""

import sys

import _stage


def track(when: str = "if-needed") -> None:
    """Sync; at once done where the store is known to hold all, unless `when` is `always`."""
    from aebench.tracking.sync import SyncState, sync

    layout = _stage.LAYOUT
    if when != "always" and layout.params.is_file() and SyncState(layout).complete():
        return
    sync(_stage.params(), layout, lambda line: print(line, file=sys.stderr))


if __name__ == "__main__":
    _stage.run(track)
