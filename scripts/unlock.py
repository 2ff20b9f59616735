"""Remove DVC's note of who reads and writes what, where DVC was killed while it wrote it: it would refuse to run."""

import json
from pathlib import Path

NOTE = Path(__file__).resolve().parents[1] / ".dvc" / "tmp" / "rwlock"


def main() -> None:
    """Remove a note that cannot be read; a whole one is left alone, since DVC knows by it of others at work."""
    try:
        json.loads(NOTE.read_bytes())
    except FileNotFoundError:
        pass
    except ValueError:
        NOTE.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
