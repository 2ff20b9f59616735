"""What a sync leaves in MLflow, on small results in a real store."""

import ast
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, network, tiny
from mlflow import MlflowClient
from results import CELLS, Results, tags

from aebench.paths import CONFIG, WEIGHTS

# In a process that finds no aebench but that of the artifacts.
LOAD = """
import json, sys
import mlflow, numpy as np
mlflow.set_tracking_uri(sys.argv[1])
x = np.load(sys.argv[2])
for uri, out, tasks in json.loads(sys.argv[3]):
    model = mlflow.pyfunc.load_model(uri)
    np.savez(out, **{name: model.predict(x, params=params) for name, params in tasks.items()})
ours = [module for name, module in sys.modules.items() if name.partition(".")[0] == "aebench"]
print(json.dumps([getattr(module, "__file__", None) for module in ours]))
"""
TASKS = {"reconstruct": None, "encode": {"task": "encode"}, "labelled": {"task": "encode", "label": 2}}
KINDS: tuple[dict[str, Any], ...] = (
    {"kind": "ae"},
    {"kind": "dae", "corruption": "masking", "corruption_rate": 0.3},
    {"kind": "vae", "likelihood": "gaussian"},
    {"kind": "vae", "likelihood": "continuous_bernoulli"},
    {"kind": "cvae", "conditioning": "concat"},
    {"kind": "cvae", "conditioning": "concat", "architecture": "gated_mlp"},
    {"kind": "cvae", "conditioning": "concat", "architecture": "conv"},
)
SAMPLES = {
    "sample": {"task": "sample", "seed": 5},
    "again": {"task": "sample", "seed": 5},
    "other": {"task": "sample", "seed": 6},
}


@pytest.fixture(scope="module")
def synced(results: Results, tmp_path_factory: pytest.TempPathFactory) -> Results:
    copy = results.copy(tmp_path_factory.mktemp("synced") / "checkout")
    assert "6 runs added" in copy.track()
    return copy


def spoil(checkout: Results, variant: str = "cvae") -> None:
    """Other results of seed 0, hence also of the variant."""
    path = checkout.root / f"reports/metrics/digits/{variant}.json"
    content = json.loads(path.read_text())
    content["seeds"]["0"]["reconstruction_mse"] *= 2
    path.write_text(json.dumps(content))


def test_runs_say_where_they_come_from(synced: Results) -> None:
    runs = synced.runs()
    assert sorted(runs) == CELLS
    digests = set()
    for cell, (run,) in runs.items():
        variant = cell.split("/")[1]
        assert tags(run)["dvc.stage.train"] == f"train@digits-{variant}"
        assert tags(run)["dvc.stage.evaluate"] == f"evaluate@digits-{variant}"
        assert tags(run)["aebench.superseded"] == "false"
        assert run.info.status == "FINISHED"
        digests |= {tags(run)["aebench.dataset_digest"], *(put.dataset.digest for put in run.inputs.dataset_inputs)}
        if "seed" in cell:
            assert tags(run)["aebench.trained_here"] == "true"
            assert tags(run)["system.torch"].startswith("2.")
            assert {"system.cpu", "system.cores", "system.platform", "system.python"} <= set(tags(run))
            assert run.data.metrics["training_seconds"] > 0
            assert run.data.metrics["evaluation_seconds"] > 0
    assert len(digests) == 1


def test_what_a_cache_brought_back_claims_no_machine_and_no_times(results: Results, tmp_path: Path) -> None:
    restored = results.copy(tmp_path / "restored")
    shutil.rmtree(restored.root / ".aebench" / "runtime")
    for path in (restored.root / "evaluations").rglob("*.npz"):
        later = path.stat().st_mtime + 3600
        os.utime(path, (later, later))
    restored.track()
    (run,) = restored.runs()["digits/ae/seed-1"]
    assert tags(run)["aebench.trained_here"] == "false"
    assert not [name for name in tags(run) if name.startswith("system.")]
    assert not [name for name in run.data.metrics if name.endswith("_seconds")]


def test_the_variants_of_one_kind_of_run_share_their_keys(synced: Results) -> None:
    runs = synced.runs()
    ae, cvae = (runs[f"digits/{variant}/seed-0"][0] for variant in ("ae", "cvae"))
    shared = {name for name in ae.data.params if not name.startswith("model.")}
    assert shared == {name for name in cvae.data.params if not name.startswith("model.")}
    assert {"network.latent_dim", "training.epochs", "evaluation.importance_samples", "seed"} <= shared
    client = MlflowClient(synced.store)
    for name in ("train_loss", "validation_loss", "validation_reconstruction_mse"):
        for run in (ae, cvae):
            assert [point.step for point in client.get_metric_history(run.info.run_id, name)] == [1, 2, 3]


@pytest.mark.slow
def test_superseded_results_are_marked_until_they_come_back(results: Results, tmp_path: Path) -> None:
    checkout = results.copy(tmp_path / "checkout")
    checkout.track()
    good = (checkout.root / "reports/metrics/digits/cvae.json").read_text()
    client = MlflowClient(checkout.store)
    name = "aebench-digits-cvae"
    first = {run.info.run_id for (run,) in checkout.runs().values()}

    def marks(cell: str) -> list[str]:
        """Of the first results, and after them of the others."""
        runs = sorted(checkout.runs()[cell], key=lambda run: run.info.run_id not in first)
        return [tags(run)["aebench.superseded"] for run in runs]

    spoil(checkout)
    assert "2 runs added, 4 already there" in checkout.track()
    assert marks("digits/cvae/seed-0") == marks("digits/cvae") == ["true", "false"]
    assert marks("digits/cvae/seed-1") == marks("digits/ae") == ["false"]
    versions = len(client.search_model_versions(f"name='{name}'"))
    (checkout.root / "reports/metrics/digits/cvae.json").write_text(good)
    assert "0 runs added, 6 already there" in checkout.track()
    assert marks("digits/cvae/seed-0") == marks("digits/cvae") == ["false", "true"]
    assert marks("digits/cvae/seed-1") == ["false"]
    assert len(client.search_model_versions(f"name='{name}'")) == versions
    current = client.get_model_version_by_alias(name, "current")
    assert tags(client.get_run(current.run_id))["aebench.superseded"] == "false"
    params = checkout.root / "params.yaml"
    params.write_text(params.read_text().replace("variants: [ae, cvae]", "variants: [cvae]"))
    checkout.track()
    assert marks("digits/ae") == marks("digits/ae/seed-0") == ["true"]


def test_a_model_is_registered_once_for_the_best_seed(synced: Results) -> None:
    client = MlflowClient(synced.store)
    assert "0 runs added" in synced.track("always")
    for variant in ("ae", "cvae"):
        (version,) = client.search_model_versions(f"name='aebench-digits-{variant}'")
        losses = {}
        for seed in (0, 1):
            folder = synced.root / f"runs/digits/{variant}/seed-{seed}"
            selected = json.loads((folder / CONFIG).read_text())["selected_epoch"]
            header, *rows = [line.split(",") for line in (folder / "history.csv").read_text().split()]
            losses[seed] = float(rows[selected - 1][header.index("validation_loss")])
        best = min(losses, key=lambda seed: losses[seed])
        assert tags(client.get_run(version.run_id))["aebench.cell"] == f"digits/{variant}/seed-{best}"
        assert version.tags["aebench.seed"] == str(best)
        assert client.get_model_version_by_alias(version.name, "current").version == version.version


def test_a_lost_model_is_noticed_and_logged_again(synced: Results) -> None:
    client = MlflowClient(synced.store)
    synced.track()
    client.delete_registered_model("aebench-digits-ae")
    assert "0 runs added, 6 already there" in synced.track()
    (version,) = client.search_model_versions("name='aebench-digits-ae'")
    (run,) = synced.runs()[f"digits/ae/seed-{version.tags['aebench.seed']}"]
    assert version.run_id == run.info.run_id
    (logged,) = client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run.info.run_id}'")
    assert version.source == f"models:/{logged.model_id}"


def isolated(
    checkout: Results, scratch: Path, x: np.ndarray, wanted: dict[str, dict[str, object]]
) -> dict[str, dict[str, np.ndarray]]:
    """What models predict, by their addresses, in a process of its own that is far from this project's code."""
    np.save(scratch / "x.npy", x)
    outs = {uri: scratch / f"{number}.npz" for number, uri in enumerate(wanted)}
    orders = json.dumps([(uri, str(outs[uri]), tasks) for uri, tasks in wanted.items()])
    done = checkout.python("-I", "-c", LOAD, checkout.store, str(scratch / "x.npy"), orders)
    assert done.returncode == 0, done.stderr
    files = json.loads(done.stdout.splitlines()[-1])
    assert len(files) > 5
    assert all("/code/aebench/" in file for file in files)
    assert not [file for file in files if file.startswith((str(ROOT), f"{checkout.root / 'src'}"))]
    found = {}
    for uri, out in outs.items():
        with np.load(out, allow_pickle=False) as arrays:
            found[uri] = dict(arrays)
    return found


def test_a_registered_model_works_without_this_package_bit_for_bit(synced: Results, tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((300, 64), dtype=np.float32)
    uri = "models:/aebench-digits-cvae@current"
    served = isolated(synced, tmp_path, x, {uri: {**TASKS, **SAMPLES}})[uri]
    seed = MlflowClient(synced.store).get_model_version_by_alias("aebench-digits-cvae", "current").tags["aebench.seed"]
    script = (
        "import sys; sys.path.insert(0, 'src'); import aebench, numpy, torch;"
        "x = torch.from_numpy(numpy.load(sys.argv[1]));"
        f"model = aebench.load_run('runs/digits/cvae/seed-{seed}'); torch.set_grad_enabled(False);"
        "numpy.savez(sys.argv[2], reconstruct=model.reconstruct(x), encode=model.encode(x))"
    )
    done = synced.python("-c", script, str(tmp_path / "x.npy"), str(tmp_path / "loaded.npz"))
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "loaded.npz", allow_pickle=False) as loaded:
        for name in ("reconstruct", "encode"):
            assert served[name].dtype == np.float32
            assert served[name].tobytes() == loaded[name].tobytes()
    assert served["sample"].tobytes() == served["again"].tobytes() != served["other"].tobytes()
    assert served["sample"].shape == (300, 64)


def test_a_served_model_brings_no_code_that_fetches_or_runs_anything() -> None:
    """A DAE, too, whose corruption of images serving does not need, stands on models alone."""
    from aebench.tracking import models

    files = models.code()
    assert {"dae.py", "corruption.py", "conv.py"} <= {path.name for path in files}
    assert not {"data", "execution", "training", "tracking"}.intersection(path.parent.name for path in files)
    imported = {
        (alias.name if isinstance(node, ast.Import) else str(node.module)).split(".")[0]
        for path in files
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert not imported & {"urllib", "http", "socket", "requests", "subprocess", "tempfile", "sklearn", "torchvision"}


def test_every_kind_is_served_from_code_and_safetensors(synced: Results, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save

    from aebench.tracking import models

    x = np.random.default_rng(1).random((7, 64), dtype=np.float32)
    shares = [(1 + label) / 55 for label in range(10)]
    wanted, expected = {}, {}
    for number, settings in enumerate(KINDS):
        folder = tmp_path / str(number)
        folder.mkdir()
        model = tiny(**settings)
        (folder / WEIGHTS).write_bytes(save({name: value.contiguous() for name, value in model.state_dict().items()}))
        images = {"shape": [1, 8, 8], "class_shares": shares}
        of_network = network(settings.get("architecture", "mlp")).model_dump(mode="json")
        block = {name: value for name, value in settings.items() if name != "architecture"}
        (folder / CONFIG).write_text(json.dumps({"model": block, "network": of_network, "images": images}))
        models.save(folder, folder / "served", x[:2])
        files = [path for path in (folder / "served").rglob("*") if path.is_file()]
        kinds = {path.suffix or path.name for path in files}
        assert kinds == {".py", ".safetensors", ".json", ".yaml", ".txt", "MLmodel"}
        required = (folder / "served" / "requirements.txt").read_text().split()
        assert [name.split("==")[0] for name in required] == ["mlflow", "torch", "numpy", "safetensors", "pydantic"]
        uri = str(folder / "served")
        wanted[uri] = {"reconstruct": None, "encode": {"task": "encode"}}
        if settings["kind"] not in ("ae", "dae"):
            wanted[uri]["sample"] = {"task": "sample"}
        with torch.no_grad():
            x_ = torch.from_numpy(x)
            expected[uri] = {"reconstruct": model.reconstruct(x_).numpy(), "encode": model.encode(x_).numpy()}
    for uri, served in isolated(synced, tmp_path, x, wanted).items():
        assert set(served) == set(wanted[uri])
        assert all(np.isfinite(values).all() for values in served.values())
        for name, values in expected[uri].items():
            assert served[name].tobytes() == values.tobytes()


@pytest.mark.parametrize("conditioning", ["class_prior", "concat"])
def test_samples_are_of_the_class_that_is_asked_for_or_of_all_by_their_shares(conditioning: str) -> None:
    import torch

    from aebench.tracking.pyfunc_model import PyfuncModel

    model = tiny("cvae", conditioning=conditioning)
    with torch.no_grad():  # the images of class 3 alone are black and white
        (model.class_means if conditioning == "class_prior" else model.decoder.of_class)[3] = 1e4
    served = PyfuncModel()
    served.model, served.pixels = model, 64

    def extreme(count: int, **params: object) -> float:
        images = served.predict(None, np.zeros((count, 64), np.float32), {"task": "sample", **params})
        return float((np.abs(images - 0.5).mean(axis=1) > 0.45).mean())

    assert extreme(50, label=3) == 1
    assert extreme(50, label=4) == 0
    assert extreme(5000) == pytest.approx(4 / 55, abs=0.015)


@pytest.mark.parametrize(
    ("params", "pixels", "message"),
    [
        ({"task": "dream"}, 64, "task: found 'dream', allowed: reconstruct, encode, sample"),
        ({"label": 10}, 64, "label: found 10, allowed: 0 to 9, or -1 for none"),
        ({}, 65, "images: found shape (2, 65), allowed: (number, 64)"),
    ],
)
def test_what_is_not_served_is_said(params: dict[str, object], pixels: int, message: str) -> None:
    from aebench.tracking.pyfunc_model import PyfuncModel

    served = PyfuncModel()
    served.model, served.pixels = tiny("cvae"), 64
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        served.predict(None, np.zeros((2, pixels), np.float32), params)
    assert str(raised.value) == message


def test_a_model_without_a_prior_or_labels_refuses() -> None:
    from aebench.tracking.pyfunc_model import PyfuncModel

    served = PyfuncModel()
    served.model, served.pixels = tiny("ae"), 64
    for params, word in (({"task": "sample"}, "AE has no prior"), ({"label": 1}, "does not know labels")):
        with pytest.raises(ValueError, match=word):
            served.predict(None, np.zeros((2, 64), np.float32), params)


def test_a_store_that_is_gone_is_filled_anew_whatever_its_address_says(results: Results, tmp_path: Path) -> None:
    checkout, database = results.copy(tmp_path / "checkout"), tmp_path / "store.db"
    for address in (f"sqlite:///{database}?timeout=5", f"sqlite:///{database}"):
        assert "6 runs added" in checkout.track(MLFLOW_TRACKING_URI=address)
        assert checkout.track(MLFLOW_TRACKING_URI=address) == ""
        database.unlink()


def test_no_mlflow_is_imported_where_nothing_is_to_do(synced: Results) -> None:
    synced.track()
    done = synced.python("-X", "importtime", "stages/track.py")
    assert done.returncode == 0
    assert "aebench.tracking.sync" in done.stderr
    assert "mlflow" not in done.stderr
    assert "torch" not in done.stderr
