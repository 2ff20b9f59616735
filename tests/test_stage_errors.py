"""What is missing or damaged is named by the stage that meets it, with the stage to run; nothing else is printed."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from checkout import Checkout, working_tree
from test_pipeline import PARAMS

from aebench.evaluation.protocol import archive

pytestmark = pytest.mark.slow

VAE = ("digits", "vae")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """One variant on the digits, made without DVC; MLflow has nothing of it, so that a sync has all to read."""
    made = working_tree(tmp_path_factory.mktemp("stages"))
    params = PARAMS.replace("[ae, vae, cvae, cvae_concat]", "[vae]").replace("seeds: [0, 1]", "seeds: [0]")
    (made.root / "params.yaml").write_text(params)
    cell = (("train", *VAE), ("evaluate", *VAE))
    for stage in (("check",), ("fetch", "digits"), *cell, ("baseline", "digits"), ("report",)):
        done = made.run(sys.executable, f"stages/{stage[0]}.py", *stage[1:])
        assert done.returncode == 0, done.stderr
    return made


@pytest.fixture
def mended(project: Checkout) -> Iterator[None]:
    """Every result as it was before, and MLflow empty."""
    before = project.snapshot()
    yield
    for name, content in before.items():
        path = project.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (project.root / "mlflow.db").unlink(missing_ok=True)


DATA, RUN = "data/digits.safetensors", "runs/digits/vae/seed-0"
METRICS, ARCHIVE = "reports/metrics/digits/vae.json", "evaluations/digits/vae/seed-0.npz"
FETCH, TRAIN, EVALUATE = (
    f"run `dvc repro {stage}`" for stage in ("fetch@digits", "train@digits-vae", "evaluate@digits-vae")
)
TRACK = "run `dvc repro` first"
LACKING = archive({"originals": np.zeros(1)})
CASES = [
    (("train", *VAE), DATA, None, f"is missing; {FETCH}"),
    (("train", *VAE), DATA, b"", f"is damaged .*; delete it and {FETCH}"),
    (("train", *VAE), DATA, b"\xff" * 99, f"is damaged .*; delete it and {FETCH}"),
    (("evaluate", *VAE), DATA, None, f"is missing; {FETCH}"),
    (("baseline", "digits"), DATA, None, f"is missing; {FETCH}"),
    (("evaluate", *VAE), f"{RUN}/model.safetensors", None, "model.safetensors is missing"),
    (("evaluate", *VAE), f"{RUN}/model.safetensors", b"\0" * 99, "does not hold a run of this version"),
    (("evaluate", *VAE), f"{RUN}/config.json", None, "config.json is missing"),
    (("evaluate", *VAE), f"{RUN}/config.json", b"{", "is damaged"),
    (("report",), f"{RUN}/history.csv", None, f"is missing; {TRAIN}"),
    (("report",), f"{RUN}/history.csv", b"epoch,train_loss\n1,much\n", f"is damaged .*; delete it and {TRAIN}"),
    (("report",), f"{RUN}/history.csv", b"", f"is damaged .*; delete it and {TRAIN}"),
    (("report",), METRICS, None, f"is missing; {EVALUATE}"),
    (("report",), METRICS, b"{", f"is damaged .*; delete it and {EVALUATE}"),
    (("report",), METRICS, b"[]", f"is damaged .Input should be an object.; delete it and {EVALUATE}"),
    (("report",), ARCHIVE, None, f"is missing; {EVALUATE}"),
    (("report",), ARCHIVE, b"", f"is damaged .*; delete it and {EVALUATE}"),
    (("report",), ARCHIVE, b"PK\x03\x04 no archive", f"is damaged .*; delete it and {EVALUATE}"),
    (("report",), "reports/baselines/digits.json", None, "is missing; run `dvc repro baseline@digits`"),
    (
        ("report",),
        "reports/baselines/digits.json",
        b"{}",
        "is damaged .data: Field required.; delete it and run `dvc repro baseline@digits`",
    ),
    (("track", "always"), METRICS, None, f"is missing; {EVALUATE}"),
    (("track", "always"), METRICS, b"{", f"is damaged .*; delete it and {EVALUATE}"),
    (("track", "always"), f"{RUN}/history.csv", None, f"is missing; {TRACK}"),
    (("track", "always"), f"{RUN}/history.csv", b"epoch,train_loss\n1,much\n", "is damaged"),
    (("track", "always"), f"{RUN}/config.json", b"{", "is damaged"),
    (("track", "always"), ARCHIVE, b"PK\x03\x04 no archive", "is damaged"),
    (("track", "always"), ARCHIVE, LACKING, r"is damaged \(it holds no 'reconstructions'\)"),
]


@pytest.mark.usefixtures("mended")
@pytest.mark.parametrize(("stage", "name", "content", "message"), CASES)
def test_a_result_that_is_missing_or_damaged(
    project: Checkout, stage: tuple[str, ...], name: str, content: bytes | None, message: str
) -> None:
    path: Path = project.root / name
    path.unlink() if content is None else path.write_bytes(content)
    before = project.files()
    done = project.run(sys.executable, f"stages/{stage[0]}.py", *stage[1:])
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith(("vae seed", "pca", "mean_image"))]
    assert re.fullmatch(f"error: .*{message}.*", line)
    assert project.files().items() >= before.items()  # no old result is gone


@pytest.mark.usefixtures("mended")
def test_a_kind_that_is_no_longer_there(project: Checkout) -> None:
    path = project.root / METRICS
    path.write_text(json.dumps(json.loads(path.read_text()) | {"kind": "gone"}))
    done = project.run(sys.executable, "stages/track.py", "always")
    (line,) = done.stderr.splitlines()
    assert re.fullmatch(rf"error: a result of vae on digits is damaged .*aebench\.variants\.gone.*; {TRACK}", line)


@pytest.mark.usefixtures("mended")
def test_a_seed_that_was_not_evaluated(project: Checkout) -> None:
    project.edit("params.yaml", "seeds: [0]", "seeds: [0, 5]")
    try:
        done = project.run(sys.executable, "stages/report.py")
        path = project.root / METRICS
        assert done.stderr.splitlines() == [f"error: {path} lacks the seeds 5; {EVALUATE}"]
    finally:
        project.edit("params.yaml", "seeds: [0, 5]", "seeds: [0]")


def test_an_unknown_cell(project: Checkout) -> None:
    done = project.run(sys.executable, "stages/evaluate.py", "digits", "vea")
    assert done.stderr.splitlines() == ["error: 'vea' is not among variants in params.yaml, allowed: vae"]


def test_a_network_that_does_not_fit_ones_own_images(project: Checkout) -> None:
    """The check says it once they have been fetched. Of other files than those it knows nothing."""
    images, labels = np.random.default_rng(0).integers(0, 256, (60, 8, 8), np.uint8), np.arange(60) % 2
    np.savez(project.root / "datasets" / "mine.npz", images=images, labels=labels)
    before = (project.root / "params.yaml").read_text()
    project.edit("params.yaml", "datasets: [digits]", "datasets: [mine]")
    project.edit("params.yaml", "{hidden: [32],", "{architecture: conv, channels: [2, 2, 2, 2],")
    project.edit("params.yaml", "{validation_fraction: 0.1}", "{validation_images: 10}")
    try:
        assert project.run(sys.executable, "stages/fetch.py", "mine").returncode == 0
        found = "network.channels: found a list of 4 for images of 8 × 8 pixels, allowed: at most 3"
        for stage, where in ((("check",), "mine"), (("train", "mine", "vae"), "vae")):
            done = project.run(sys.executable, f"stages/{stage[0]}.py", *stage[1:])
            assert done.stderr.splitlines() == [f"error: params.yaml: {where}: {found}"]
        np.savez(project.root / "datasets" / "mine.npz", images=images.repeat(2, 1).repeat(2, 2), labels=labels)
        assert project.run(sys.executable, "stages/check.py").returncode == 0
    finally:
        (project.root / "params.yaml").write_text(before)
        (project.root / "datasets" / "mine.npz").unlink()
