"""`make ais`: its table on a small run, and what it says of one that has none."""

import re
import shutil
from pathlib import Path

from checkout import Checkout, working_tree
from test_train import config

from aebench.paths import Layout
from aebench.training.run import train_run


def project_with_a_run(root: Path, digits_file: Path, kind: str) -> Checkout:
    project = working_tree(root)
    data = Layout(root).data("digits")
    data.parent.mkdir(exist_ok=True)
    shutil.copyfile(digits_file, data)
    train_run(config(kind), "digits", 0, data, lambda *_: None).write(root / "run")
    return project


def test_the_table_of_a_small_run(tmp_path: Path, digits_file: Path) -> None:
    project = project_with_a_run(tmp_path, digits_file, "cvae")
    done = project.run("python", "scripts/ais.py", "run", "2", "--chains", "4", "--temperatures", "3")
    assert done.returncode == 0, done.stderr
    found = re.findall(
        r"^(amortised|refined) +(K = 10+|annealing) +(-\d+\.\d{3}) +\d+\.\d{3} ", done.stdout, re.MULTILINE
    )
    assert [row[:2] for row in found] == [
        (proposal, estimate)
        for proposal in ("amortised", "refined")
        for estimate in ("K = 10", "K = 100", "K = 1000", "K = 10000", "annealing")
    ]
    # All are of the same two images.
    assert max(float(row[2]) for row in found) - min(float(row[2]) for row in found) < 2


def test_a_model_without_a_prior_is_refused_in_one_line(tmp_path: Path, digits_file: Path) -> None:
    done = project_with_a_run(tmp_path, digits_file, "ae").run("python", "scripts/ais.py", "run")
    assert done.returncode == 1
    assert done.stderr == "error: run: a model without p(z) has no log p(x)\n"
