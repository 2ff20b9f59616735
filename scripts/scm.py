"""Let DVC do without git where there is none, as in an archive that was downloaded, and with it once there is one."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main(root: Path = ROOT) -> None:
    """Set `core.no_scm` in this checkout's own configuration, or remove it; where it is right, DVC is not started."""
    own = root / ".dvc" / "config.local"
    without = own.is_file() and "no_scm" in own.read_text(encoding="utf-8")
    has_git = any((folder / ".git").exists() for folder in (root, *root.parents))  # DVC looks there, too
    if without == has_git:
        change = ("--unset", "core.no_scm") if has_git else ("core.no_scm", "true")
        subprocess.run(["dvc", "config", "--quiet", "--local", *change], cwd=root, check=True)


if __name__ == "__main__":
    main()
