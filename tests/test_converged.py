"""`make converged`: the benchmark under another training, in a folder of its own, and what is published of it."""

import json
import sys
from pathlib import Path

import pandas as pd
import pytest
from checkout import working_tree
from conftest import RESULTS, ROOT
from ruamel.yaml import YAML

from aebench.models.objectives import objectives
from aebench.models.posteriors import posteriors
from aebench.models.priors import priors
from aebench.training.settings import read_params
from aebench.variants import kinds

SMALL = RESULTS.replace("importance_samples: 20\n", "importance_samples: 20\n  proposal: amortised\n", 1)
CHANGES = """\
training:
  epochs: 40
  patience: 2
  batch_size: 16
  learning_rate: 5.0e-2
  select: best_validation
tracking:
  experiment: converged
"""


@pytest.mark.parametrize("name", ["converged", "families"])
def test_the_settings_are_in_order(name: str, tmp_path: Path) -> None:
    changes = YAML(typ="safe").load(ROOT / "settings" / f"{name}.yaml")
    file = tmp_path / "params.yaml"
    with file.open("w") as stream:
        YAML().dump(YAML(typ="safe").load(ROOT / "params.yaml") | changes, stream)
    params = read_params(file, [])
    if name == "families":
        assert {params.models[variant].kind for variant in params.variants} == set(kinds())
        parts = {
            "prior": priors(),
            "posterior": posteriors(),
            "objective": objectives(),
        }
        for key, known in parts.items():
            found = {getattr(getattr(params.models[variant], key, None), key, None) for variant in params.variants}
            assert found - {None} == set(known)


@pytest.mark.slow
def test_the_comparison_is_made_with_other_settings_and_published(tmp_path: Path) -> None:
    project = working_tree(tmp_path / "project")
    (project.root / "params.yaml").write_text(SMALL)
    (project.root / "settings" / "converged.yaml").write_text(CHANGES)
    before = {name: content for name, content in project.files().items() if "published/converged/" not in name}

    done = project.run(sys.executable, "scripts/comparison.py", "converged")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Running stage 'train@") == 2
    published, made = project.root / "published" / "converged", project.root / "converged"
    assert {path.name for path in published.iterdir()} == {
        *("README.md", "comparison.md", "comparison.csv", "comparison.wide.csv", "pairs.csv", "summary.json"),
        *("params.yaml", "endings.csv"),
    }
    for name in ("comparison.md", "comparison.csv", "comparison.wide.csv", "pairs.csv", "summary.json"):
        assert (published / name).read_bytes() == (made / "reports" / name).read_bytes()

    settings = YAML(typ="safe").load(published / "params.yaml")
    assert settings == YAML(typ="safe").load(SMALL) | YAML(typ="safe").load(CHANGES)
    endings = pd.read_csv(published / "endings.csv")
    assert list(zip(endings["variant"], endings["seed"], strict=True)) == [
        (variant, seed) for variant in ("ae", "cvae") for seed in (0, 1)
    ]
    for ending in endings.itertuples():
        folder = made / "runs" / "digits" / ending.variant / f"seed-{ending.seed}"
        history = pd.read_csv(folder / "history.csv")
        assert ending.epochs == len(history) < 40
        assert ending.last_validation_loss == history["validation_loss"].iloc[-1]
        assert ending.selected_validation_loss == history["validation_loss"].min()
        assert ending.epochs - ending.selected_epoch == 2
        assert ending.selected_epoch == json.loads((folder / "config.json").read_text())["selected_epoch"]
    text = (published / "README.md").read_text()
    assert "Of 4 runs, 4 were ended by their patience" in text
    assert f"after {endings['epochs'].min()} to {endings['epochs'].max()} epochs" in text
    assert "| `patience` | 2 |" in text
    assert "Compared are `ae` and `cvae`, on `digits`, in 2 seeds." in text

    there = project.files()  # nothing of the default benchmark has changed
    assert {name: there[name] for name in before} == before
    # What was killed, even while DVC wrote its own note, goes on; what is done is not done again.
    (made / ".dvc" / "tmp" / "rwlock").write_text('{"a": ')
    (made / "runs" / "digits" / "cvae" / "seed-1" / "history.csv").unlink()
    again = project.run(sys.executable, "scripts/comparison.py", "converged")
    assert again.returncode == 0, again.stderr
    assert "Running stage 'train@digits-ae'" not in again.stdout
    assert {name: content for name, content in project.files().items() if "published" in name} == {
        name: content for name, content in there.items() if "published" in name
    }


def test_a_mistake_in_params_yaml_is_one_line(tmp_path: Path) -> None:
    project = working_tree(tmp_path / "project")
    (project.root / "params.yaml").write_text(RESULTS.replace("seeds: [0, 1]", "seeds: 0"))
    done = project.run(sys.executable, "scripts/comparison.py", "converged")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: params.yaml: seeds: found 0")
    assert not (project.root / "converged").exists()


@pytest.mark.slow
def test_what_one_seed_shows_is_published_without_verdicts(tmp_path: Path) -> None:
    project = working_tree(tmp_path / "project")
    (project.root / "params.yaml").write_text(SMALL)
    (project.root / "settings" / "families.yaml").write_text("seeds: [0]\nvariants: [ae]\n")
    done = project.run(sys.executable, "scripts/comparison.py", "families")
    assert done.returncode == 0, done.stderr
    published = project.root / "published" / "families"
    text = (published / "README.md").read_text()
    assert not (published / "pairs.csv").exists()
    assert "pairs.csv" not in text
    assert "[comparison.md](comparison.md): the tables and the cautions.\n" in text
    assert "in one seed" in text
