"""A copy of the project in a folder of its own, where the pipeline runs with other parameters."""

import io
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import unlock

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))  # scripts take the package from this checkout
CODE = (
    *("dvc.yaml", ".dvcignore", ".dvc/config", ".dvc/plots", ".dvc/plots.html"),
    *("constraints.txt", "datasets/README.md", "stages", "src"),
)


def make(folder: Path, params: str) -> None:
    """Copy the code beside what an earlier run left in `folder`, so that only what changed runs again."""
    folder.mkdir(exist_ok=True)
    for name in CODE:
        source, target = ROOT / name, folder / name
        if source.is_dir():
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(source, target)
    (folder / "params.yaml").write_text(params, "utf-8")
    (folder / ".dvc" / "config.local").write_text("[core]\n    no_scm = true\n")  # no commit has the copy


def dumped(settings: Mapping[str, object], command: str) -> str:
    """Settings as the text of a params.yaml, which says what command made it."""
    from ruamel.yaml import YAML

    text = io.StringIO()
    YAML(typ="safe").dump(dict(settings), text)
    return f"# Made by `{command}`.\n{text.getvalue()}"


def share(folder: Path) -> None:
    """What is known besides, and need not be fetched again: the user's data sets, and raw files of others."""
    for name in ("datasets", ".aebench/raw"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, dirs_exist_ok=True)


def finish(main: Callable[[], None]) -> None:
    """Run a script's `main`, whose next call goes on where this one is stopped."""
    from aebench.errors import UserError

    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def repro(folder: Path) -> bool:
    """Run what is out of date in the copy, also after a run that was killed; whether all of it succeeded."""
    unlock.main(folder)
    return subprocess.run(["dvc", "repro"], cwd=folder, check=False).returncode == 0
