"""Remove DVC's note of who reads and writes what, where DVC was killed while it wrote it: it would refuse to run."""

import json
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def readable(note: Path) -> bool:
    """Whether the note is whole, or is not there."""
    try:
        json.loads(note.read_bytes())
    except FileNotFoundError:
        return True
    except ValueError:
        return False
    return True


def main(root: Path = ROOT) -> None:
    """Remove a note that cannot be read; a whole one is left alone, since DVC knows by it of others at work."""
    note = root / ".dvc" / "tmp" / "rwlock"
    if readable(note):
        return
    from dvc.lock import LockError, make_lock  # takes longer than all the rest, and is seldom needed

    # Another DVC may be about to write it, which it does under this lock. Where that is not to be had within seconds,
    # or the checkout may not be written to, DVC itself says what is wrong.
    with suppress(LockError, OSError), make_lock(f"{note}.lock"):
        if not readable(note):
            note.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
