"""`make published`: the literature's tables, run in small on the digits, and what is written of them."""

import json
import math
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from checkout import Checkout, working_tree
from conftest import ROOT
from ruamel.yaml import YAML

from aebench.training.settings import read_params

TABLES = sorted(path.parent.name for path in (ROOT / "published").glob("*/literature.yaml"))
SMALL = {
    "training": {"epochs": 3, "batch_size": 100},
    "network": {"hidden": [12, 12]},
    "evaluation": {"importance_samples": 40},
    "pseudo_inputs": 5,
    "exemplars": 100,
    "exemplars_a_step": 10,
}


def read(path: Path) -> Any:
    return YAML(typ="safe").load(path)


def small(project: Checkout, table: str, *variants: str) -> None:
    """The table's own settings of some variants with few epochs and narrow networks, on the digits."""
    folder = project.root / "published" / table
    for name, key in (("params.yaml", "models"), ("literature.yaml", "log_px")):
        content = read(folder / name)
        content[key] = {variant: content[key][variant] for variant in variants}
        if key == "models":
            content["variants"] = list(content[key])
        with (folder / name).open("w") as stream:
            YAML().dump(content, stream)
    file = folder / "params.yaml"
    params = read(file)
    params["datasets"] = ["digits_binary"]
    params["seeds"] = [0]
    if params["data"]["validation_images"]:
        params["data"]["validation_images"] = 200
    for block in ("training", "network", "evaluation"):
        params[block] |= SMALL[block]  # type: ignore[operator]
    for model in params["models"].values():
        for setting in ("pseudo_inputs", "exemplars", "exemplars_a_step"):
            if setting in model:
                model[setting] = SMALL[setting]
        if "beta_warmup_epochs" in model:
            model["beta_warmup_epochs"] = 2
        if "hidden_of_levels" in model:
            model["hidden_of_levels"] = [12]
    with file.open("w") as stream:
        YAML().dump(params, stream)


@pytest.mark.parametrize("table", TABLES)
def test_the_settings_of_a_table_are_in_order_and_its_paper_has_the_same_variants(table: str) -> None:
    params = read_params(ROOT / "published" / table / "params.yaml", [])
    literature = read(ROOT / "published" / table / "literature.yaml")
    assert list(params.variants) == list(literature["log_px"])
    assert params.evaluation.importance_samples == 5000
    assert params.evaluation.proposal == "amortised"


def test_the_schedule_of_the_importance_weighted_autoencoder_is_the_papers() -> None:
    """Burda et al. 2016, §5: 3^i passes at 1e-3·10^(−i/7), i from 0 to 7."""
    from torch import zeros

    from aebench.training.descent import Descent

    training = read_params(ROOT / "published" / "mnist_iwae" / "params.yaml", []).training
    descent = Descent(training, [zeros(1)], batches=2)
    passes = [i for i in range(8) for _ in range(3**i)]
    assert len(passes) == training.epochs
    for epoch, stage in enumerate(passes):
        for step in (2 * epoch, 2 * epoch + 1):
            assert math.isclose(descent.learning_rate(step), 1e-3 * 10 ** (-stage / 7))


@pytest.mark.slow
def test_the_table_of_the_importance_weighted_autoencoder_runs_on_the_digits(tmp_path: Path) -> None:
    project = working_tree(tmp_path / "project")
    small(project, "mnist_iwae", "vae_5", "iwae_50")
    done = project.run(sys.executable, "scripts/published.py", "mnist_iwae")
    assert done.returncode == 0, done.stderr
    page = (project.root / "published" / "README.md").read_text()
    section = next(part for part in page.split("## ") if "(mnist_iwae/" in part)
    assert (
        len(re.findall(r"^\| `\w+` \| [\d.]+ \| [\d.]+ \| 1 \| [+−][\d.]+ \| unknown \|", section, re.MULTILINE)) == 2
    )


@pytest.mark.slow
def test_a_table_is_made_and_stands_beside_the_papers(tmp_path: Path) -> None:
    project, table = working_tree(tmp_path / "project"), "mnist_vampprior"
    folder = project.root / "published" / table
    small(project, table, "vae", "hvae_vampprior")
    first, *others = read(folder / "params.yaml")["variants"]

    def run(*only: str) -> str:
        done = project.run(sys.executable, "scripts/published.py", "/".join((table, *only)))
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert run(first, "0").count("Running stage 'train@") == 1
    (file,) = folder.glob("*.json")
    found = json.loads(file.read_text())
    assert (file.stem, list(found)) == (first, ["0"])
    whole = (project.root / "published" / "README.md").read_text()
    page = next(part for part in whole.split("## ") if f"({table}/" in part)
    for variant in others:
        assert re.search(rf"^\| `{variant}` \| .* \| not run here \|", page, re.MULTILINE)
    row = next(line for line in page.splitlines() if line.startswith(f"| `{first}` |"))
    theirs, _ = read(folder / "literature.yaml")["log_px"][first]
    _, _, shown, ours, seeds, difference, _, tight, _ = map(str.strip, row.split("|"))
    assert shown.startswith(f"{theirs:.2f}")
    assert float(ours) == pytest.approx(found["0"]["nll_nats"], abs=0.005)
    assert float(difference.replace("−", "-")) == pytest.approx(found["0"]["nll_nats"] - theirs, abs=0.006)
    assert seeds == "1"
    assert float(tight.split()[0]) == pytest.approx(found["0"]["tight_nll_nats"], abs=0.005)
    assert found["0"]["last_epoch"]["epoch"] == 3
    assert found["0"]["nll_nats"] < -found["0"]["elbo_nats"]

    # Once more from nothing gives the same bits; all of the table keeps what was there.
    before = found["0"]
    file.unlink()
    shutil.rmtree(folder / "work")
    run()
    results = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}
    assert set(results) == {first, *others}
    again = results[first]["0"]
    for name in ("weights_sha256", "nll_nats", "tight_nll_nats", "elbo_nats", "last_epoch"):
        assert again[name] == before[name]
    assert "not run here" not in next(
        part for part in (project.root / "published" / "README.md").read_text().split("## ") if f"({table}/" in part
    )


def test_a_part_that_there_is_not_is_one_line(tmp_path: Path) -> None:
    project = working_tree(tmp_path / "project")
    for only, message in (
        ("fashion_mnist_binry", "error: ONLY: found fashion_mnist_binry, allowed: fashion_mnist_binary, "),
        ("fashion_mnist_binary/vea", "error: ONLY: found vea, allowed: vae, "),
        ("fashion_mnist_binary/vae/7", "error: ONLY: found 7, allowed: 0, 1, 2"),
        ("fashion_mnist_binary/vae/0/x", "error: ONLY: found fashion_mnist_binary/vae/0/x, allowed: one of TABLE, "),
    ):
        done = project.run(sys.executable, "scripts/published.py", only)
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert line.startswith(message)


def test_what_other_settings_gave_is_not_shown(tmp_path: Path) -> None:
    project = working_tree(tmp_path / "project")
    file = project.root / "published" / "mnist_iwae" / "vae_1.json"
    run = {
        "nll_nats": 87.5,
        "tight_nll_nats": 87.0,
        "training_minutes": 2.0,
        "machine": "a CPU",
        "last_epoch": {"epoch": 9},
    }
    table = "import json, published as p; t = p.tables()['mnist_iwae']; "
    write = (
        f"run = {run!r} | {{'settings': p.made_by(t.settings(), 'vae_1')}}; "
        "(t.folder / 'vae_1.json').write_text(json.dumps({'0': run, '1': run | {'nll_nats': 88.5}})); "
    )

    def shown(script: str) -> str:
        paths = f"{project.root}/scripts:{project.root}/src"
        done = project.run(sys.executable, "-c", script + "print(p.section(t))", PYTHONPATH=paths)
        assert done.returncode == 0, done.stderr
        return next(line for line in done.stdout.splitlines() if line.startswith("| `vae_1`"))

    # √(s²/2 + s²/1) with s = 1/√2, since the paper has one run and no spread.
    assert shown(table + write) == "| `vae_1` | 86.76 | 88.00 ± 0.71 | 2 | +1.24 | 0.87 | 87.00 (+1.00) |"
    project.edit("published/mnist_iwae/params.yaml", "batch_size: 20", "batch_size: 21")
    assert "not run here" in shown(table)
    file.write_text("{")
    paths = f"{project.root}/scripts:{project.root}/src"
    done = project.run(sys.executable, "-c", table + "t.results('vae_1')", PYTHONPATH=paths)
    assert "vae_1.json: found what is no result" in done.stderr
