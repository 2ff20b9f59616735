"""What the documentation adds is taken up from one file, through DVC."""

import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from checkout import working_tree
from conftest import RESULTS, ROOT
from mlflow import MlflowClient
from ruamel.yaml import YAML

pytestmark = pytest.mark.slow


def example(page: str) -> tuple[str, dict[str, object]]:
    """The code that stands in a page, and the changes of params.yaml where there are any."""
    blocks = re.findall(r"^```(python|yaml)\n(.*?)^```$", (ROOT / "docs" / page).read_text(), re.MULTILINE | re.DOTALL)
    found = dict(reversed(blocks))  # the first of each language
    return found["python"], YAML(typ="safe").load(found.get("yaml", "{}"))


def small() -> dict[str, Any]:
    """params.yaml with one seed, where a second would show no more."""
    return {**YAML(typ="safe").load(RESULTS), "seeds": [0]}


def test_a_network(tmp_path: Path) -> None:
    code, changes = example("adding-a-network.md")
    project = working_tree(tmp_path / "checkout")
    (project.root / "src/aebench/models/networks/residual.py").write_text(code)
    params = small()
    params["models"] = {"vae": {"kind": "vae"}, **changes.pop("models")}  # type: ignore[dict-item]
    with (project.root / "params.yaml").open("w") as file:
        YAML().dump({**params, **changes}, file)
    assert {"train@digits-vae", "train@digits-vae_residual"} <= set(project.repro())
    found = json.loads((project.root / "reports/metrics/digits/vae_residual.json").read_text())
    assert found["protocol"]["network"]["architecture"] == "residual"
    assert found["parameters"] == sum(
        (inputs + 1) * outputs
        for inputs, outputs in ((64, 16), (16, 16), (16, 16), (16, 8), (4, 16), (16, 16), (16, 16), (16, 64))
    )
    assert "vae_residual" in (project.root / "reports/comparison.md").read_text()
    contract = ("-m", "pytest", "-o", "addopts=", "tests/test_networks.py", "tests/test_variants.py", "-k", "residual")
    done = project.run(sys.executable, *contract, PYTHONPATH=str(project.root / "src"))
    assert done.returncode == 0, done.stdout
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 30  # type: ignore[index]
    style = project.run(sys.executable, "-m", "ruff", "check", "src/aebench/models/networks/residual.py")
    assert style.returncode == 0, style.stdout
    project.edit("src/aebench/models/networks/mlp.py", "nn.ReLU(inplace=True)", "nn.ReLU(inplace=False)")
    again = set(project.repro())
    assert "train@digits-vae" in again
    assert not {"train@digits-vae_residual", "fetch@digits"} & again


def test_a_variant(tmp_path: Path) -> None:
    code, changes = example("adding-a-variant.md")
    project = working_tree(tmp_path / "checkout")
    params = small()
    settings, blocks = project.root / "params.yaml", {"ae": {"kind": "ae"}}
    with settings.open("w") as file:
        YAML().dump({**params, "variants": ["ae"], "models": blocks}, file)
    assert "train@digits-ae" in project.repro()
    file_name = "src/aebench/variants/smooth_ae.py"
    (project.root / file_name).write_text(code)
    with settings.open("w") as file:
        YAML().dump({**params, **changes, "models": {**blocks, **changes["models"]}}, file)  # type: ignore[dict-item]
    again = set(project.repro())
    assert again == {"check", "train@digits-smooth_ae", "evaluate@digits-smooth_ae", "report", "track"}
    assert "| **smooth_ae**" in (project.root / "reports/comparison.md").read_text()

    def variation(variant: str) -> float:
        with np.load(project.root / f"evaluations/digits/{variant}/seed-0.npz") as arrays:
            return sum(float(np.abs(np.diff(arrays["reconstructions"], axis=axis)).sum()) for axis in (-1, -2))

    assert variation("smooth_ae") < 0.9 * variation("ae")
    contract = ("-m", "pytest", "-o", "addopts=", "tests/test_variants.py", "-k", "smooth_ae")
    done = project.run(sys.executable, *contract, PYTHONPATH=str(project.root / "src"))
    assert done.returncode == 0, done.stdout
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 5  # type: ignore[index]
    for style in (("ruff", "check"), ("ruff", "format", "--check")):
        done = project.run(sys.executable, "-m", *style, file_name)
        assert done.returncode == 0, done.stdout


def test_models_of_the_literatures_shapes(tmp_path: Path) -> None:
    """A flow that scores its own samples alone, two levels of latents, a prior that is dear to make: a file each.

    The flow stands there twice, the second time with a prior that the label moves.
    """
    project = working_tree(tmp_path / "checkout")
    files = sorted((ROOT / "tests/plugins/variants").glob("*.py"))
    for file in files:
        (project.root / "src/aebench/variants" / file.name).write_text(file.read_text())
    kinds = [file.stem for file in files]
    params = small()
    models: dict[str, object] = {kind: {"kind": kind} for kind in kinds}
    # Trained for so long that the priors of the classes have parted.
    training = {"epochs": 20, "learning_rate": 0.01}
    models["flow_of_class"] = {"kind": "flow", "class_prior": True, "training": training}
    params |= {"variants": list(models), "models": models}
    with (project.root / "params.yaml").open("w") as file_of_params:
        YAML().dump(params, file_of_params)
    ran = project.repro()
    assert {f"{stage}@digits-{kind}" for stage in ("train", "evaluate") for kind in models} <= set(ran)
    comparison = (project.root / "reports/comparison.md").read_text()
    for kind in models:
        found = json.loads((project.root / f"reports/metrics/digits/{kind}.json").read_text())
        mean = {metric: summary["mean"] for metric, summary in found["summary"].items()}
        assert mean["elbo_nats"] < mean["iw_log_likelihood_nats"] < 0
        assert mean["rate_nats"] > 0
        assert mean["expost_log_likelihood_nats"] > mean["iw_log_likelihood_nats"]
        with_labels = kind == "flow_of_class"
        assert ("elbo_given_label_nats" in mean) == with_labels
        if with_labels:
            assert mean["elbo_nats"] < mean["elbo_given_label_nats"] < mean["iw_log_likelihood_given_label_nats"] < 0
            assert mean["generative_accuracy"] > 0.3  # of ten classes
        assert f"| **{kind}**{' †' * with_labels}" in comparison
    contract = ("-m", "pytest", "-o", "addopts=", "tests/test_variants.py", "-k", " or ".join(kinds))
    done = project.run(sys.executable, *contract, PYTHONPATH=str(project.root / "src"))
    assert done.returncode == 0, done.stdout
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 20  # type: ignore[index]


LINEAR = """\
from typing import Annotated, ClassVar, Literal
from pydantic import Field
from aebench.config import ScheduleConfig, Settings

class Config(ScheduleConfig):
    EXAMPLE: ClassVar[Settings] = {"last_share": 0.5}
    schedule: Literal["linear"] = "linear"
    last_share: Annotated[float, Field(ge=0, le=1)]

    def share_of_step(self, done: float) -> float:
        return 1 - done * (1 - self.last_share)
"""
ENOUGH = """\
from collections.abc import Sequence
from typing import ClassVar, Literal
from aebench.config import Settings, StoppingConfig

class Config(StoppingConfig):
    EXAMPLE: ClassVar[Settings] = {"enough": 0.0}
    stopping: Literal["enough"] = "enough"
    enough: float

    def ends(self, losses: Sequence[float], warmup_epochs: int) -> bool:
        return losses[-1] < self.enough

    def looks_at_validation(self) -> tuple[str, str]:
        return "ends by its validation loss", "stopping: patience"
"""


def test_a_schedule_and_a_rule_that_ends_training(tmp_path: Path) -> None:
    project = working_tree(tmp_path / "checkout")
    for name, code in {"schedules/linear": LINEAR, "stopping/enough": ENOUGH}.items():
        (project.root / f"src/aebench/training/{name}.py").write_text(code)
    params = small()
    params["variants"], params["models"] = (
        ["ae", "linear", "ended"],
        {
            "ae": {"kind": "ae"},
            "linear": {"kind": "ae", "training": {"schedule": "linear", "last_share": 0.1}},
            "ended": {"kind": "ae", "training": {"stopping": "enough", "enough": 1000.0}},
        },
    )
    with (project.root / "params.yaml").open("w") as file:
        YAML().dump(params, file)
    project.repro()
    runs = {name: project.root / f"runs/digits/{name}/seed-0" for name in params["variants"]}
    epochs = {name: len((folder / "history.csv").read_text().splitlines()) - 1 for name, folder in runs.items()}
    assert epochs == {"ae": 2, "linear": 2, "ended": 1}
    first, second = ((runs[name] / "history.csv").read_text() for name in ("ae", "linear"))
    assert first != second
    found = json.loads((project.root / "reports/metrics/digits/ended.json").read_text())
    assert found["seeds"]["0"]["still_improving"] == 0  # it did not take all its epochs
    assert found["protocol"]["training"]["enough"] == 1000
    params["data"] = {"validation_fraction": 0}
    params["training"]["select"] = "last"
    with (project.root / "params.yaml").open("w") as file:
        YAML().dump(params, file)
    refused = project.run(sys.executable, "stages/check.py")
    assert refused.returncode == 1
    assert (
        "data.validation_fraction: found 0 while ended ends by its validation loss, allowed: a share" in refused.stderr
    )
    contract = ("-m", "pytest", "-o", "addopts=", "tests/test_optimizers.py", "-k", "linear or enough")
    done = project.run(sys.executable, *contract, PYTHONPATH=str(project.root / "src"))
    assert done.returncode == 0, done.stdout


def test_a_metric(tmp_path: Path) -> None:
    code, _ = example("adding-a-metric.md")
    project = working_tree(tmp_path / "checkout")
    params = YAML(typ="safe").load(RESULTS)
    params |= {"variants": ["ae", "vae", "cvae"], "models": {kind: {"kind": kind} for kind in ("ae", "vae", "cvae")}}
    with (project.root / "params.yaml").open("w") as file:
        YAML().dump(params, file)
    project.repro()
    before = {
        name: json.loads((project.root / f"reports/metrics/digits/{name}.json").read_text()) for name in ("ae", "vae")
    }
    name = "src/aebench/evaluation/metrics/psnr.py"
    (project.root / name).write_text(code)
    ran = set(project.repro())
    assert {"evaluate@digits-ae", "evaluate@digits-vae", "evaluate@digits-cvae", "report"} <= ran
    assert not any(stage.startswith(("fetch", "train", "baseline")) for stage in ran)
    for variant, old in before.items():
        new = json.loads((project.root / f"reports/metrics/digits/{variant}.json").read_text())
        for seed, values in new["seeds"].items():
            psnr, of_mean = values.pop("reconstruction_psnr_db"), -10 * math.log10(values["reconstruction_mse"])
            assert of_mean < psnr < of_mean + 3  # the logarithm is concave
            assert values == old["seeds"][seed]
    reports = project.root / "reports"
    heading = (reports / "comparison.md").read_text().splitlines()[2]
    assert heading.endswith("| active units | PSNR [dB] ↑ | weights |")
    pairs = pd.read_csv(reports / "pairs.csv")
    assert len(pairs[pairs["metric"] == "reconstruction_psnr_db"]) == 3
    for page in ("index.html", "comparison.tex"):
        assert "PSNR" in (reports / page).read_text()
    for page in ("comparison.csv", "comparison.wide.csv", "summary.json"):
        assert "reconstruction_psnr_db" in (reports / page).read_text()
    client = MlflowClient(f"sqlite:///{project.root / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("aebench/digits")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "tags.`aebench.superseded` = 'false'")
    assert (
        sum("reconstruction_psnr_db" in run.data.metrics for run in runs) == 3 * 3
    )  # three variants, and two seeds of each
    contract = (sys.executable, "-m", "pytest", "-o", "addopts=", "tests/test_metrics.py")
    style = (sys.executable, "-m", "ruff", "check", name)
    asked = project.run(*contract, "-k", "documentation", PYTHONPATH=str(project.root / "src"))
    assert asked.returncode == 1
    assert "docs/metrics.md does not define reconstruction_psnr_db" in asked.stdout
    project.edit("docs/metrics.md", "| `rate_nats` |", "| `reconstruction_psnr_db` | −10 log₁₀ MSE |\n| `rate_nats` |")
    for command in (contract, style):
        done = project.run(*command, PYTHONPATH=str(project.root / "src"))
        assert done.returncode == 0, done.stdout


def test_metrics_on_request(tmp_path: Path) -> None:
    """Named in params.yaml they stand wherever metrics do; nothing else changes, and before no file spoke of them."""
    project = working_tree(tmp_path / "checkout")
    (project.root / "params.yaml").write_text(RESULTS)
    project.repro()
    reports, own = project.root / "reports", ("generative_brier_score", "mutual_information_nats")
    texts = ("index.html", "comparison.csv", "comparison.wide.csv", "summary.json", "metrics/digits/cvae.json")

    def spoken_of() -> dict[str, list[str]]:
        titles = ("Brier", "mutual information")
        found = {name: (reports / name).read_text() for name in texts}
        return {
            name: [word for word in (titles if name == "index.html" else own) if word in found[name]] for name in texts
        }

    assert not any(spoken_of().values())
    table, before = (reports / "comparison.md").read_text(), json.loads((reports / texts[-1]).read_text())
    assert "extra" not in before["protocol"]["evaluation"]
    project.edit(
        "params.yaml", "corruption: masking", "corruption: masking\n  extra: [calibration, aggregated_posterior]"
    )
    ran = set(project.repro())
    assert {"evaluate@digits-ae", "evaluate@digits-cvae", "report", "track"} <= ran
    assert not any(stage.startswith(("fetch", "train", "baseline")) for stage in ran)
    assert all(len(words) == 2 for words in spoken_of().values())
    assert (reports / "comparison.md").read_text() == table
    after = json.loads((reports / texts[-1]).read_text())
    for seed, values in before["seeds"].items():
        assert values.items() < after["seeds"][seed].items()
        parts = after["seeds"][seed]["mutual_information_nats"] + after["seeds"][seed]["aggregated_posterior_kl_nats"]
        assert parts == pytest.approx(values["rate_nats"])
    of_ae = json.loads((reports / "metrics/digits/ae.json").read_text())["not_defined"]
    assert set(own) <= of_ae.keys()
    client = MlflowClient(f"sqlite:///{project.root / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("aebench/digits")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "tags.`aebench.superseded` = 'false'")
    assert sum(own[0] in run.data.metrics for run in runs) == 1 + 2  # a variant, and its two seeds
