"""The whole pipeline through `dvc repro`, in clones of this repository, on the digits: real DVC, real MLflow."""

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from browser import visit
from checkout import Checkout, working_tree

from aebench.evaluation.metrics import metrics as registered

PARAMS = """\
datasets: [digits]
variants: [ae, vae, cvae, cvae_concat]
seeds: [0, 1]
numerics: native
device: cpu
data: {validation_fraction: 0.1}
network: {hidden: [32], latent_dim: 4}
training: {epochs: 2, batch_size: 64, learning_rate: 1.0e-3, select: best_validation}
models:
  ae: {kind: ae}
  vae: {kind: vae, likelihood: bernoulli, objective: elbo, beta: 1.0, beta_warmup_epochs: 0}
  cvae: {kind: cvae, conditioning: class_prior, likelihood: bernoulli, beta: 1.0, beta_warmup_epochs: 0}
  cvae_concat: {kind: cvae, conditioning: concat, likelihood: bernoulli, beta: 1.0, beta_warmup_epochs: 0}
evaluation:
  importance_samples: 97
  proposal: amortised
  expost: {images: 30, importance_samples: 60}
  corruption: masking
  corruption_rate: 0.3
execution: {workers: auto, source_dir: null}
tracking: {experiment: aebench}
"""
# A change to the code that shows in the report, so that it is known whose code ran.
MARK = ("raw pixels", "pixels as they are")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A clone of the working tree after its first `dvc repro`, committed with its results."""
    clone = working_tree(tmp_path_factory.mktemp("ein größerer Klon"))  # a space and letters beyond ASCII
    root = clone.root
    (root / "params.yaml").write_text(PARAMS)
    clone.edit("src/aebench/reporting/tables.py", *MARK)
    clone.commit("code")
    ran = clone.repro()
    assert len(ran) == 13
    clone.commit("results")
    return clone


def test_git_holds_what_it_should_and_nothing_else(project: Checkout) -> None:
    assert project.git("status", "--porcelain") == ""
    held = project.git("ls-files").splitlines()
    for name in ("dvc.lock", "reports/metrics/digits/vae.json", "reports/baselines/digits.json", "reports/summary.json",
                 "reports/comparison.md", "reports/comparison.csv", "reports/overview.png"):  # fmt: skip
        assert name in held
    for folder in ("data/", "runs/", "evaluations/", ".aebench/", "mlruns/", "reports/figures/", "reports/index.html"):
        assert not [name for name in held if name.startswith(folder)]


def test_the_metric_files_keep_their_contract(project: Checkout) -> None:
    everywhere = {
        *("reconstruction_mse", "reconstruction_bce_nats", "denoising_mse", "probe_accuracy", "knn_accuracy"),
        *(f"probe_accuracy_{labels}_labels" for labels in (10, 100, 1000)),
        *("expost_log_likelihood_nats", "expost_effective_sample_size", "expost_pareto_k_unreliable_share"),
        *("expost_sigma", "epochs_trained", "still_improving"),
    }
    latent = {
        *("elbo_nats", "distortion_nats", "rate_nats", "iw_log_likelihood_nats", "active_units"),
        *("effective_sample_size", "pareto_k_unreliable_share", "generalisation_gap_nats", "bound_gap_nats"),
    }
    labels = {"elbo_given_label_nats", "iw_log_likelihood_given_label_nats", "generative_accuracy"}
    given = {"reconstruction_mse_given_label", "denoising_mse_given_label"}
    every = everywhere | latent | labels | given
    all_metrics = every | {"bits_per_dimension"}  # of 8-bit pixels alone
    defined = {
        "ae": everywhere,
        "vae": everywhere | latent,
        "cvae": everywhere | latent | labels,
        "cvae_concat": every,
    }
    no_means = {"active_units", "generalisation_gap_nats", "expost_sigma", "effective_sample_size"}
    no_means |= {"expost_effective_sample_size", "epochs_trained", "still_improving", "bound_gap_nats"}
    for variant, metrics in defined.items():
        text = (project.root / f"reports/metrics/digits/{variant}.json").read_text()
        found = json.loads(text, parse_constant=pytest.fail)
        assert json.dumps(found, indent=1, sort_keys=True) + "\n" == text
        assert set(found) == {
            *("dataset", "variant", "kind", "parameters", "protocol", "seeds", "failed"),
            *("weights_sha256", "summary", "vectors", "not_defined"),
        }
        assert set(found["seeds"]) == {"0", "1"}
        assert all(set(seed) == metrics for seed in found["seeds"].values())
        assert {name for name in found["not_defined"] if "." not in name} == all_metrics - metrics
        assert found["protocol"]["images"] == 360
        for name, summary in found["summary"].items():
            values = [seed[name] for seed in found["seeds"].values()]
            assert summary["mean"] == pytest.approx(np.mean(values))
            assert summary["sd"] == pytest.approx(np.std(values, ddof=1))
            assert summary["ci95"][0] <= summary["mean"] <= summary["ci95"][1]
            assert ("ci95_images" in summary) == (name not in no_means)
    vae, cvae = (json.loads((project.root / f"reports/metrics/digits/{v}.json").read_text()) for v in ("vae", "cvae"))
    assert vae["protocol"]["importance_samples"] == 97
    assert "not a normalised likelihood" in vae["protocol"]["likelihood_note"]
    assert cvae["protocol"]["trained_with_labels"] is True
    for seed in [*vae["seeds"].values(), *cvae["seeds"].values()]:
        assert seed["elbo_nats"] == pytest.approx(-seed["distortion_nats"] - seed["rate_nats"])
        assert seed["iw_log_likelihood_nats"] > seed["elbo_nats"]
        assert seed["rate_nats"] >= 0


def test_per_image_values_are_kept_under_the_metrics_names(project: Checkout) -> None:
    for variant in ("ae", "vae", "cvae_concat"):
        found = json.loads((project.root / f"reports/metrics/digits/{variant}.json").read_text())
        with np.load(project.root / f"evaluations/digits/{variant}/seed-1.npz", allow_pickle=False) as arrays:
            for name, value in found["seeds"]["1"].items():
                if registered()[name].average:
                    assert arrays[name].shape == ((30,) if name.startswith("expost_") else (360,))
                    average = np.median if name.endswith("effective_sample_size") else np.mean
                    assert average(arrays[name]) == pytest.approx(value)
            assert arrays["codes"].shape == (360, 4)


def test_the_pairs_are_those_that_compare(project: Checkout) -> None:
    pairs = pd.read_csv(project.root / "reports/pairs.csv")
    of_probe = pairs[pairs["metric"] == "probe_accuracy"]
    assert set(zip(of_probe["a"], of_probe["b"], strict=True)) == {("ae", "vae"), ("cvae", "cvae_concat")}
    assert len(pairs[pairs["metric"] == "iw_log_likelihood_nats"]) == 3
    assert len(pairs[pairs["metric"] == "expost_log_likelihood_nats"]) == 6
    assert (pairs["p_holm"] >= pairs["p"]).all()
    ae, vae = (
        json.loads((project.root / f"reports/metrics/digits/{variant}.json").read_text()) for variant in ("ae", "vae")
    )
    row = pairs[(pairs["metric"] == "reconstruction_mse") & (pairs["a"] == "ae") & (pairs["b"] == "vae")].iloc[0]
    means = [found["summary"]["reconstruction_mse"]["mean"] for found in (ae, vae)]
    assert row["difference"] == pytest.approx(means[0] - means[1])
    assert row["ci95_low"] < row["difference"] < row["ci95_high"]


def test_the_report_is_whole_and_opens_offline(project: Checkout) -> None:
    page = (project.root / "reports/index.html").read_text()
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", page)
    assert ">None<" not in page
    assert page.count("data:image/png;base64,") >= 7
    for word in (
        "Which is better",
        "Pareto k̂",
        "All differences",
        "cvae_concat",
        "PCA, 4 components",
        "mean image",
        "importance_samples",
        "not defined",
    ):
        assert word in page
    assert page.count("bits a dimension") == 1  # no variant has it: a note says why, and no table shows it
    assert "bits a dimension is not shown" in page
    markdown = (project.root / "reports/comparison.md").read_text()
    assert len([line for line in markdown.splitlines() if line.startswith("| **")]) == 4
    table = pd.read_csv(project.root / "reports/comparison.csv")
    assert set(table["variant"]) >= {"ae", "vae", "cvae", "baseline:pca"}
    ae = table[(table["variant"] == "ae") & (table["metric"] == "elbo_nats")].iloc[0]
    assert np.isnan(ae["mean"])
    assert "no p(z)" in ae["not_defined"]


def test_the_report_says_what_was_still_improving(project: Checkout) -> None:
    """Two epochs at a small rate are not enough for anything."""
    for variant in ("ae", "cvae"):
        summary = (project.root / "reports/metrics/digits" / f"{variant}.json").read_text()
        assert re.search(r'"epochs_trained": 2\.0', summary)
    comparison = (project.root / "reports/comparison.md").read_text()
    assert "| **ae** ‡ |" in comparison
    assert "| **cvae** †‡ |" in comparison
    assert comparison.count("**Caution.** Every run was still improving when its training ended.") == 1
    page = (project.root / "reports/index.html").read_text()
    assert page.count("Every run was still improving when its training ended.") == 1
    assert ">ae ‡</th>" in page
    assert ">cvae †‡</th>" in page


def test_dvc_plots_every_run(project: Checkout) -> None:
    done = project.run("dvc", "plots", "show", "--json", "--out", str(project.root / ".aebench" / "plots"))
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)["data"]
    assert set(shown) == {"reconstruction_error", "loss", "bound", "confusion"}
    for name, plots in shown.items():
        content = plots[0]["content"]
        values = content["data"]["values"]
        assert "<DVC_METRIC" not in json.dumps(content)
        without_prior = set() if name == "bound" else {"digits/ae"}
        assert {value["cell"] for value in values} == {
            "digits/vae",
            "digits/cvae",
            "digits/cvae_concat",
        } | without_prior
        if name == "confusion":
            assert sum(int(value["images"]) for value in values) == 4 * 2 * 360


@pytest.mark.parametrize("width", [1400, 390])
def test_the_page_works_in_a_browser(project: Checkout, tmp_path: Path, width: int) -> None:
    found = visit(project.root / "reports" / "index.html", tmp_path, width)
    assert found["errors"] == []
    assert found["unloaded"] == []
    assert found["requests"] == []
    assert found["images"] > 15
    assert found["canvases"] == 2 * 4
    assert found["drawn"]
    assert (found["shown"], found["under"]) == ("block", found["label"])
    values = [float(value) for value in found["down"] if value]
    assert values == sorted(values, reverse=True)
    assert [float(value) for value in found["up"] if value] == sorted(values)
    assert found["up"][-1] == found["down"][-1] == ""  # raw pixels are not restored
    assert not found["wide"]
    assert found["cut"] == []


def test_the_clones_own_code_ran(project: Checkout) -> None:
    assert MARK[1] in (project.root / "reports/comparison.md").read_text()


def test_a_second_run_does_nothing(project: Checkout) -> None:
    before = project.snapshot()
    assert project.repro() == ["check", "track"]
    assert project.snapshot() == before
    assert project.git("status", "--porcelain") == ""


def runs_in(project: Checkout, store: str | None = None) -> list[dict[str, object]]:
    """What MLflow itself says that a store holds."""
    script = (
        "import json, mlflow, sys; client = mlflow.MlflowClient(sys.argv[1]);"
        "ids = [e.experiment_id for e in client.search_experiments()];"
        "print(json.dumps([{'status': r.info.status, 'params': r.data.params, 'metrics': r.data.metrics,"
        "'tags': r.data.tags, 'artifacts': [a.path for a in client.list_artifacts(r.info.run_id)],"
        "'epochs': [(m.step, m.value) for m in client.get_metric_history(r.info.run_id, 'train_loss')],"
        "'data': [d.dataset.digest for d in r.inputs.dataset_inputs]} for r in client.search_runs(ids)]))"
    )
    done = project.run(sys.executable, "-c", script, store or f"sqlite:///{project.root / 'mlflow.db'}")
    assert done.returncode == 0, done.stderr
    found: list[dict[str, object]] = json.loads(done.stdout.splitlines()[-1])
    return found


def cells(runs: list[dict[str, object]]) -> list[str]:
    return sorted(run["tags"]["aebench.cell"] for run in runs)  # type: ignore[index]


EXPECTED_CELLS = sorted(
    f"digits/{variant}{seed}" for variant in ("ae", "vae", "cvae", "cvae_concat") for seed in ("", "/seed-0", "/seed-1")
)


def test_mlflow_holds_each_run_once_after_two_syncs(project: Checkout) -> None:
    shutil.rmtree(project.root / ".aebench" / "sync")  # so that the store is asked again
    done = project.run(sys.executable, "stages/track.py")
    assert "0 runs added, 12 already there" in done.stderr
    runs = runs_in(project)
    assert cells(runs) == EXPECTED_CELLS
    assert {run["status"] for run in runs} == {"FINISHED"}
    children = [run for run in runs if run["tags"]["aebench.role"] == "seed"]  # type: ignore[index]
    shared = {
        "network.hidden",
        "network.latent_dim",
        "training.epochs",
        "seed",
        "numerics",
        "device",
        "evaluation.importance_samples",
    }
    for run in children:
        assert shared <= set(run["params"])  # type: ignore[call-overload]
        assert {"reconstruction_mse", "validation_reconstruction_mse", "train_loss"} <= set(run["metrics"])  # type: ignore[call-overload]
        assert {"model.safetensors", "config.json", "history.csv", "pictures"} <= set(run["artifacts"])  # type: ignore[call-overload]
        assert [step for step, _ in run["epochs"]] == [1, 2]  # type: ignore[attr-defined]
        assert len(run["data"]) == 1  # type: ignore[arg-type]
        assert run["metrics"]["training_seconds"] > 0  # type: ignore[index]
        assert run["tags"]["mlflow.note.content"].startswith(("AE: ", "DAE: ", "VAE: ", "CVAE: "))  # type: ignore[index]
        assert run["tags"]["mlflow.parentRunId"]  # type: ignore[index]
        assert len(run["tags"]["mlflow.source.git.commit"]) == 40  # type: ignore[index]
        assert run["tags"]["aebench.uncommitted_changes"] == "false"  # type: ignore[index]
    parent = next(run for run in runs if run["tags"]["aebench.cell"] == "digits/vae")  # type: ignore[index]
    assert {"elbo_nats", "elbo_nats_sd", "elbo_nats_ci95_low"} <= set(parent["metrics"])  # type: ignore[call-overload]


def test_an_unreachable_server_is_a_warning(project: Checkout) -> None:
    done = project.run(sys.executable, "stages/track.py", MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert done.returncode == 0
    (line,) = done.stderr.splitlines()
    assert line.startswith("warning: MLflow at http://127.0.0.1:9 was not synced")


def test_a_bad_parameter_stops_before_anything_is_deleted(project: Checkout) -> None:
    before = project.snapshot()
    good = (project.root / "params.yaml").read_text()
    project.edit("params.yaml", "epochs: 2", "epochs: 0")
    line = "error: params.yaml: training.epochs: found 0, allowed: greater than or equal to 1"
    try:
        done = project.run("dvc", "repro")
        assert done.returncode != 0
        assert line in (done.stdout + done.stderr).splitlines()
        for stage, *arguments in (
            ("track",),
            ("evaluate", "digits", "vae"),
        ):
            by_hand = project.run(sys.executable, f"stages/{stage}.py", *arguments)
            assert (by_hand.returncode, by_hand.stderr.splitlines()) == (1, [line])
        assert project.snapshot() == before
    finally:
        (project.root / "params.yaml").write_text(good)
    assert project.repro()[-1] == "track"
    assert project.snapshot() == before


def test_what_needs_no_gpu_works_without_one(project: Checkout) -> None:
    project.edit("params.yaml", "device: cpu", "device: cuda")
    try:
        assert project.run(sys.executable, "stages/report.py").returncode == 0
    finally:
        project.edit("params.yaml", "device: cuda", "device: cpu")


def test_a_stage_by_hand_says_what_it_takes(project: Checkout) -> None:
    done = project.run(sys.executable, "stages/train.py", "digits")
    assert (done.returncode, done.stderr) == (1, "usage: python stages/train.py DATASET VARIANT\n")
    done = project.run(sys.executable, "stages/train.py", "digits", "vea")
    assert (done.returncode, done.stderr.splitlines()) == (
        1,
        ["error: 'vea' is not among variants in params.yaml, allowed: ae, vae, cvae, cvae_concat"],
    )


def test_an_edit_of_one_variant_reruns_its_stages_only(project: Checkout) -> None:
    untouched = {name: content for name, content in project.snapshot().items() if "/ae" in name or "/cvae" in name}
    project.edit("params.yaml", "objective: elbo, beta: 1.0", "objective: elbo, beta: 4.0")
    assert project.repro() == ["check", "train@digits-vae", "evaluate@digits-vae", "report", "track"]
    after = project.snapshot()
    assert {name: after[name] for name in untouched} == untouched
    runs = runs_in(project)
    seeds = [run for run in runs if run["tags"]["aebench.cell"] == "digits/vae/seed-0"]  # type: ignore[index]
    assert sorted(run["params"]["model.beta"] for run in seeds) == ["1.0", "4.0"]  # type: ignore[index]
    old = next(run for run in seeds if run["params"]["model.beta"] == "1.0")  # type: ignore[index]
    assert old["tags"]["aebench.superseded"] == "true"  # type: ignore[index]


def test_a_removed_variant_leaves_no_trace(project: Checkout) -> None:
    project.edit("params.yaml", "variants: [ae, vae, cvae, cvae_concat]", "variants: [ae, vae]")
    assert set(project.repro()) <= {"check", "report", "track"}
    for name, content in project.snapshot().items():
        assert "cvae" not in name
        if name.endswith((".md", ".csv", ".json", ".html")):
            assert b"cvae" not in content.replace(b"models.cvae", b"")
    lock = (project.root / "dvc.lock").read_text()
    assert "digits-cvae" not in lock
    assert "runs/digits/cvae" not in lock
