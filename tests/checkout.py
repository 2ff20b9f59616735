"""Copies of the working tree, in which commands run with this environment's programs."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from conftest import ROOT

# What the one who runs the tests may have set, and a user has not.
OURS = ("DVC", "MLFLOW", "MALLOC", "MAKE", "MFLAGS")
# `make` in this environment, which is taken as it is.
MAKE = ("make", "--assume-old", f"{sys.prefix}/.ready", f"VENV={sys.prefix}")


@dataclass
class Checkout:
    """A folder with the project's code, and what becomes of it."""

    root: Path

    def environment(self, **changes: str) -> dict[str, str]:
        """That of a user with nothing of ours set."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {**kept, "PATH": path, **changes}

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """What a command says, and how it ends."""
        return subprocess.run(
            command,
            cwd=self.root,
            env=self.environment(**environment),
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=3600,
        )

    def unprivileged(self, *command: str) -> tuple[str, ...]:
        """The command for one whom permissions stop, as they do not stop root."""
        root = ("setpriv", "--bounding-set", "-dac_override", "--inh-caps", "-all") if os.geteuid() == 0 else ()
        return *root, *command

    @contextmanager
    def start(self, *command: str, **environment: str) -> Iterator["subprocess.Popen[str]"]:
        """A command that goes on by itself, its output in one; with the block it ends, and all that it began."""
        with subprocess.Popen(
            command,
            cwd=self.root,
            env=self.environment(**environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                yield process
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                if process.stdout and not process.stdout.closed:
                    process.communicate()  # ends when all that hold its output have

    def make(self, target: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """What `make target` says, and how it ends."""
        return self.run(*MAKE, target, **environment)

    def repro(self) -> list[str]:
        """`dvc repro`; the stages that ran."""
        done = self.run("dvc", "repro")
        assert done.returncode == 0, done.stdout + done.stderr
        return re.findall(r"Running stage '(.*)':", done.stdout)

    def git(self, *arguments: str) -> str:
        """What git says."""
        done = self.run("git", "-c", "user.name=test", "-c", "user.email=test@localhost", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def commit(self, message: str) -> None:
        """Commit all files."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace a piece of text that is in a file."""
        path = self.root / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def snapshot(self) -> dict[str, bytes]:
        """All results, byte for byte."""
        return {
            name: content
            for name, content in self.files().items()
            if name.startswith(("data/", "runs/", "evaluations/", "reports/"))
        }

    def files(self) -> dict[str, bytes]:
        """All files of git and of the results, by name."""
        paths = [path for path in self.root.rglob("*") if path.is_file()]
        found = {str(path.relative_to(self.root)): path for path in paths}
        return {
            name: path.read_bytes()
            for name, path in found.items()
            if "__pycache__" not in name and not name.startswith((".git/", ".dvc/tmp/", ".dvc/cache/"))
        }


def working_tree(root: Path) -> Checkout:
    """A new repository at `root` with what git has here or would take, but for results; nothing is committed."""
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
    copy = Checkout(root)
    copy.git("init", "--quiet", "--initial-branch=main")
    return copy


def checkout(root: Path) -> Checkout:
    """Such a copy, committed there."""
    made = working_tree(root)
    made.commit("code")
    return made
