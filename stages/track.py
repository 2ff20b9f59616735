"""track: what the other stages wrote, mirrored into MLflow; by hand too: `python stages/track.py`."""

import sys

import _stage


def track() -> None:
    """Sync; at once done where the store is known to hold all."""
    from aebench.tracking.sync import SyncState, sync

    layout = _stage.LAYOUT
    if layout.params.is_file() and SyncState(layout).complete():
        return
    sync(_stage.params(), layout, lambda line: print(line, file=sys.stderr))


if __name__ == "__main__":
    _stage.run(track)
