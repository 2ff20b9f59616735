"""Where every file lies. Nothing else spells a path."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aebench.errors import FileError


class Layout:
    """The files of one checkout; `root` is the folder that holds `params.yaml`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.params = root / "params.yaml"  # the one place where numbers live
        self.pins = root / "constraints.txt"  # the versions of all packages
        self.source = root / "src"  # of the package
        self.stages = root / "stages"  # of the stages' code
        self.lock = root / "dvc.lock"  # DVC's record of every stage's inputs and outputs
        self.scratch = root / ".aebench"  # what follows: neither in git nor in DVC's cache
        self.checked = self.scratch / "params.ok"  # a constant file: params.yaml has passed its check
        self.fingerprints = self.scratch / "code"  # of the stages' code
        self.seen = self.scratch / "seen"  # the hash of what the check saw and wrote when all was in order
        self.raw = self.scratch / "raw"  # verified raw files; data sets that are made of the same ones share a folder
        self.store = self.scratch / "store"  # finished runs and evaluations, and checkpoints
        self.sync_state = self.scratch / "sync"  # what the MLflow stores are known to hold
        self.reports = root / "reports"  # what people read
        self.figures = self.reports / "figures"  # the report's pictures
        self.overview = self.reports / "overview.png"  # all variants at a glance: the one picture that the README shows
        self.page = self.reports / "index.html"  # the whole report in one file
        self.summary = self.reports / "summary.json"  # the means alone, for DVC
        self.pairs = self.reports / "pairs.csv"  # the differences between variants

    @property
    def datasets(self) -> tuple[Path, ...]:
        """Folders of the user's own data sets: this checkout's, then that of the main one, in whose copy DVC works."""
        return self.root / "datasets", Path(os.environ.get("DVC_ROOT", self.root)) / "datasets"

    def fingerprint(self, stage: str, *variant: str) -> Path:
        """The fingerprint of the code of a stage, and of a variant where the stage knows one."""
        return self.fingerprints.joinpath(stage, *variant)

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

    def metrics(self, dataset: str, variant: str) -> Path:
        """A variant's metrics, all seeds."""
        return self.reports / "metrics" / dataset / f"{variant}.json"

    def baseline(self, dataset: str) -> Path:
        """A data set's baselines."""
        return self.reports / "baselines" / f"{dataset}.json"

    def baseline_values(self, dataset: str) -> Path:
        """The baselines' per-image values."""
        return self.root / "evaluations" / dataset / "baselines.npz"

    def comparison(self, form: str) -> Path:
        """The comparison table; `form` is the ending of its name: `md`, `tex`, `csv` (long) or `wide.csv`."""
        return self.reports / f"comparison.{form}"


def write(path: Path, content: bytes | str, *, flush: bool = False) -> None:
    """Write a file into its folder, which is made where it is missing.

    The content is written beside and renamed: the file is there whole or as it was, and one that is a link, as DVC
    makes them into its cache, gives way to a file of its own. With `flush` that holds where the machine fails, too.

    Raises:
        FileError: the disk is full, or the folder may not be written to.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with _one_line(path, "written"):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.write_bytes(content.encode() if isinstance(content, str) else content)
            if flush:
                with partial.open("rb+") as written:
                    os.fsync(written.fileno())
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
