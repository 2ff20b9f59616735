"""Where every file lies. Nothing else spells a path."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from aebench.errors import FileError


@dataclass(frozen=True)
class Layout:
    """The files of one checkout; `root` is the folder that holds `params.yaml`."""

    root: Path

    @property
    def params(self) -> Path:
        """The one place where numbers live."""
        return self.root / "params.yaml"

    @property
    def pins(self) -> Path:
        """The versions of all packages."""
        return self.root / "constraints.txt"

    @property
    def source(self) -> Path:
        """The folder of the package."""
        return self.root / "src"

    @property
    def stages(self) -> Path:
        """The folder of the stages' code."""
        return self.root / "stages"

    @property
    def lock(self) -> Path:
        """DVC's record of every stage's inputs and outputs."""
        return self.root / "dvc.lock"

    @property
    def scratch(self) -> Path:
        """Raw downloads, the store, runtime facts, sync state: neither in git nor in DVC's cache."""
        return self.root / ".aebench"

    @property
    def checked(self) -> Path:
        """A constant file: params.yaml has passed its check."""
        return self.scratch / "params.ok"

    @property
    def fingerprints(self) -> Path:
        """The folder of the fingerprints of the stages' code."""
        return self.scratch / "code"

    def fingerprint(self, stage: str, *variant: str) -> Path:
        """The fingerprint of the code of a stage, and of a variant where the stage knows one."""
        return self.fingerprints.joinpath(stage, *variant)

    @property
    def seen(self) -> Path:
        """The hash of what the check saw and wrote when all was in order."""
        return self.scratch / "seen"

    @property
    def raw(self) -> Path:
        """Verified raw files; data sets that are made of the same ones share a folder."""
        return self.scratch / "raw"

    @property
    def datasets(self) -> tuple[Path, ...]:
        """Folders of the user's own data sets: this checkout's, then that of the main one, in whose copy DVC works."""
        return self.root / "datasets", Path(os.environ.get("DVC_ROOT", self.root)) / "datasets"

    def data(self, dataset: str) -> Path:
        """A data set's images and labels."""
        return self.root / "data" / f"{dataset}.safetensors"

    def runs(self, dataset: str, variant: str) -> Path:
        """The folder of a variant's runs, one folder a seed."""
        return self.root / "runs" / dataset / variant

    def run(self, dataset: str, variant: str, seed: int) -> Path:
        """The folder of one run: weights, configuration, history."""
        return self.runs(dataset, variant) / f"seed-{seed}"

    def runtime(self, dataset: str, variant: str, seed: int) -> Path:
        """When a run was trained and when each epoch ended: facts that differ from one rerun to the next."""
        return self.scratch / "runtime" / dataset / variant / f"seed-{seed}.json"

    def live_history(self, dataset: str, variant: str, seed: int) -> Path:
        """The history of a run that is in training: `history.csv` as it grows, gone when the results are written."""
        return self.scratch / "live" / dataset / variant / f"seed-{seed}.csv"

    def live_histories(self) -> list[Path]:
        """All histories of runs that are in training."""
        return sorted(self.scratch.glob("live/*/*/seed-*.csv"))

    def timing(self, stage: str, *item: str) -> Path:
        """How long the jobs of a stage took when it last ran."""
        return self.scratch / "timing" / f"{'-'.join((stage, *item))}.json"

    def evaluations(self, dataset: str, variant: str) -> Path:
        """The folder of a variant's evaluations, one file a seed."""
        return self.root / "evaluations" / dataset / variant

    def evaluation(self, dataset: str, variant: str, seed: int) -> Path:
        """One run's per-image values, codes and pictures."""
        return self.evaluations(dataset, variant) / f"seed-{seed}.npz"

    @property
    def store(self) -> Path:
        """Finished runs and evaluations, and checkpoints, which DVC does not know of."""
        return self.scratch / "store"

    @property
    def reports(self) -> Path:
        """What people read."""
        return self.root / "reports"

    def metrics(self, dataset: str, variant: str) -> Path:
        """A variant's metrics, all seeds."""
        return self.reports / "metrics" / dataset / f"{variant}.json"

    def baseline(self, dataset: str) -> Path:
        """A data set's baselines."""
        return self.reports / "baselines" / f"{dataset}.json"

    def baseline_values(self, dataset: str) -> Path:
        """The baselines' per-image values."""
        return self.root / "evaluations" / dataset / "baselines.npz"

    @property
    def figures(self) -> Path:
        """The report's pictures."""
        return self.reports / "figures"

    @property
    def overview(self) -> Path:
        """All variants at a glance: the one picture that the README shows."""
        return self.reports / "overview.png"

    @property
    def page(self) -> Path:
        """The whole report in one file."""
        return self.reports / "index.html"

    @property
    def summary(self) -> Path:
        """The means alone, for DVC."""
        return self.reports / "summary.json"

    def comparison(self, form: str) -> Path:
        """The comparison table; `form` is the ending of its name: `md`, `tex`, `csv` (long) or `wide.csv`."""
        return self.reports / f"comparison.{form}"

    @property
    def pairs(self) -> Path:
        """The differences between variants."""
        return self.reports / "pairs.csv"

    @property
    def sync_state(self) -> Path:
        """What the MLflow stores are known to hold."""
        return self.scratch / "sync"


def write(path: Path, content: bytes | str) -> None:
    """Write a file into its folder, which is made where it is missing.

    The content is written beside and renamed: the file is there whole or as it was, and one that is a link, as DVC
    makes them into its cache, gives way to a file of its own.

    Raises:
        FileError: the disk is full, or the folder may not be written to.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with _one_line(path, "written"):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.write_bytes(content.encode() if isinstance(content, str) else content)
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder with all that is in it; there may be none.

    Raises:
        FileError: it may not be removed.
    """
    with _one_line(path, "removed"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def empty(folder: Path) -> None:
    """Make a folder where it is missing, and remove what is in it.

    Raises:
        FileError: the folder cannot be made, or something in it may not be removed.
    """
    with _one_line(folder, "made"):
        folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        remove(path)


@contextmanager
def _one_line(path: Path, what: str) -> Iterator[None]:
    """What the system says against it, as an error that a user can mend."""
    try:
        yield
    except OSError as error:
        raise FileError(f"{path} cannot be {what}: {error.strerror}") from None


# The files of a run's folder.
WEIGHTS = "model.safetensors"
CONFIG = "config.json"
HISTORY = "history.csv"
