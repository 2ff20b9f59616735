"""A copy of the working tree in which commands run with this environment's programs."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from conftest import ROOT


@dataclass
class Checkout:
    """A git repository with the files of this one, without its results."""

    root: Path

    def _environment(self, changes: dict[str, str]) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("DVC", "MLFLOW", "MALLOC"))}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {**kept, "PATH": path, **changes}

    @contextmanager
    def start(self, *command: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
        """A process with children of its own, all of which end with the block."""
        process = subprocess.Popen(
            command,
            cwd=self.root,
            env=self._environment(environment),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """What a command says, and how it ends."""
        return subprocess.run(
            command,
            cwd=self.root,
            env=self._environment(environment),
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )

    def make(self, target: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """`make target` in this environment, which is taken as it is."""
        return self.run("make", "--assume-old", f"{sys.prefix}/.ready", f"VENV={sys.prefix}", target, **environment)

    def files(self) -> dict[str, bytes]:
        """All files of git and of the results, by name."""
        paths = [path for path in self.root.rglob("*") if path.is_file()]
        found = {str(path.relative_to(self.root)): path for path in paths}
        return {
            name: path.read_bytes()
            for name, path in found.items()
            if "__pycache__" not in name and not name.startswith((".git/", ".dvc/tmp/", ".dvc/cache/"))
        }


def copy_of_the_tree(root: Path) -> None:
    """Copy what git has or would take, but for results, to `root`."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file() and not name.startswith("reports/") and name != "dvc.lock":
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, root / name)


def checkout(root: Path) -> Checkout:
    """Such a copy, committed there."""
    copy_of_the_tree(root)
    made = Checkout(root)
    for arguments in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "code"]):
        done = made.run("git", "-c", "user.name=test", "-c", "user.email=test@localhost", *arguments)
        assert done.returncode == 0, done.stderr
    return made
