"""The whole pipeline on scikit-learn's digits, in demo/: a copy of the code with small parameters of its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "demo"
CODE = ("dvc.yaml", ".dvcignore", "constraints.txt", "datasets/README.md", "stages", "src")


def main() -> None:
    """Copy the code beside what an earlier demo left, so that only what changed runs again."""
    DEMO.mkdir(exist_ok=True)
    for name in CODE:
        source, target = ROOT / name, DEMO / name
        if source.is_dir():
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(source, target)
    shutil.copyfile(ROOT / "settings" / "demo.yaml", DEMO / "params.yaml")
    if not (DEMO / ".dvc").exists():
        quiet = os.environ | {"DVC_NO_ANALYTICS": "true"}  # until the settings below say it
        subprocess.run(["dvc", "init", "--quiet", "--no-scm"], cwd=DEMO, env=quiet, check=True)
        for setting in ("core.analytics", "core.check_update"):
            subprocess.run(["dvc", "config", setting, "false"], cwd=DEMO, env=quiet, check=True)
    shutil.copytree(ROOT / ".dvc" / "plots", DEMO / ".dvc" / "plots", dirs_exist_ok=True)
    if subprocess.run(["dvc", "repro"], cwd=DEMO, check=False).returncode:
        sys.exit(1)
    print(f"\nOpen {DEMO / 'reports' / 'index.html'}")


if __name__ == "__main__":
    main()
