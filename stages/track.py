"""track: what the other stages wrote, mirrored into MLflow; by hand too: `python stages/track.py`."""

import sys

import _stage


def track() -> None:
    """Sync; at once done where the store is known to hold all."""
    from aebench import tracking

    layout = _stage.LAYOUT
    if layout.params.is_file() and tracking.SyncState(layout, tracking.store_address(layout)).complete():
        return
    tracking.sync(_stage.params(), layout, lambda line: print(line, file=sys.stderr))


if __name__ == "__main__":
    _stage.run(track)
