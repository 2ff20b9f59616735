"""What a store is told of where results came from: the commit, DVC's stages, the machine. None of it enters a key."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path


def of_checkout(root: Path) -> dict[str, str]:
    """The commit, and whether the tree has changes that it lacks; results, which a run is about to change, aside."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True).stdout

    experiment = os.environ.get("DVC_EXP_NAME")
    tags = {"dvc.experiment": experiment} if experiment else {}
    try:
        changes = git("status", "--porcelain", "--", ".", ":!reports", ":!dvc.lock").strip()
        return tags | {
            "mlflow.source.git.commit": git("rev-parse", "HEAD").strip(),
            "aebench.uncommitted_changes": str(bool(changes)).lower(),
        }
    except (OSError, subprocess.CalledProcessError):
        return tags


def of_stages(dataset: str, variant: str) -> dict[str, str]:
    """The DVC stages that made a cell's results."""
    stages = {stage: f"{stage}@{dataset}-{variant}" for stage in ("train", "evaluate")}
    return {
        "mlflow.source.name": stages["evaluate"],
        "mlflow.source.type": "LOCAL",
        **{f"dvc.stage.{stage}": name for stage, name in stages.items()},
    }


def of_system() -> dict[str, str]:
    """This machine and the versions that decide the numbers."""
    return {
        "system.cpu": _cpu(),
        "system.cores": str(os.cpu_count()),
        "system.platform": platform.platform(),
        "system.python": platform.python_version(),
        "system.torch": version("torch"),
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
