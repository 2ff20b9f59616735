"""What goes wrong around a stage costs what it must, and is said in one line."""

import json
import os
import re
import shlex
import shutil
import signal
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest
from checkout import MAKE, Checkout, working_tree
from clock import slowdown
from test_pipeline import PARAMS

pytestmark = pytest.mark.slow

# An AE that leaves the finite numbers for about every other seed, in its second epoch.
UNSTABLE = """\
class Config(VariantConfig):
    \"\"\"As of an AE.\"\"\"

    kind: Literal["unstable"]
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout with the digits and one trained variant, and a variant that fails for some seeds."""
    project = working_tree(tmp_path_factory.mktemp("faults"))
    params = PARAMS.replace("[ae, vae, cvae, cvae_concat]", "[vae, unstable]").replace("[0, 1]", "[0, 1, 2, 3]")
    params = params.replace("models:\n", "models:\n  unstable: {kind: unstable}\n").replace("epochs: 2", "epochs: 4")
    (project.root / "params.yaml").write_text(params)
    variants = project.root / "src" / "aebench" / "variants"
    source = (variants / "ae.py").read_text()
    config = source[source.index("class Config") : source.index("@final")]
    source = source.replace(config, f"{UNSTABLE}\n\n")
    returned = 'return {"loss": error, "squared_error": error}'
    assert returned in source
    lucky = "float(self.encoder[0].bias[0]) > 0 or epoch in (None, 1)"
    source = source.replace(returned, f"error = error if {lucky} else error * float('nan')\n        {returned}")
    (variants / "unstable.py").write_text(source)
    project.commit("code")
    project.repro()
    return project


def test_a_seed_that_diverges_is_reported_as_such_and_leaves_the_others(project: Checkout) -> None:
    metrics = json.loads((project.root / "reports/metrics/digits/unstable.json").read_bytes())
    failed, well = set(metrics["failed"]), set(metrics["seeds"])
    assert failed
    assert len(well) > 1
    assert failed | well == {"0", "1", "2", "3"}
    for seed, reason in metrics["failed"].items():
        assert re.match(r"train_loss is nan in epoch 2; try a smaller training.learning_rate", reason)
        folder = project.root / f"runs/digits/unstable/seed-{seed}"
        assert len((folder / "history.csv").read_text().splitlines()) == 2  # what was finite
        assert not (project.root / f"evaluations/digits/unstable/seed-{seed}.npz").exists()
    assert metrics["protocol"]["seeds"] == len(well)
    mse = [metrics["seeds"][seed]["reconstruction_mse"] for seed in well]
    assert metrics["summary"]["reconstruction_mse"]["mean"] == pytest.approx(sum(mse) / len(mse))
    for page in ("comparison.md", "index.html"):
        text = (project.root / "reports" / page).read_text()
        assert f"unstable ({len(well)} of 4 seeds)" in text
        assert f"unstable: {len(failed)} of 4 runs failed (seed {min(failed)}: train_loss is nan" in text
        assert f"its figures are those of the other {len(well)} alone" in text
    script = (
        "import mlflow; client = mlflow.MlflowClient('sqlite:///mlflow.db'); "
        "runs = [r for e in client.search_experiments() for r in client.search_runs([e.experiment_id])]; "
        "failed = [r.data.tags for r in runs if r.info.status == 'FAILED']; "
        "print(sorted((tags['aebench.cell'][-1], tags['aebench.failed']) for tags in failed))"
    )
    assert project.run("python", "-c", script).stdout.strip() == str(sorted(metrics["failed"].items()))
    assert f"on the same {len(well)} seeds" in (project.root / "reports/comparison.md").read_text()


def test_a_variant_whose_seeds_all_fail_has_reasons_in_place_of_figures(project: Checkout, tmp_path: Path) -> None:
    copy = Checkout(tmp_path / "copy")
    shutil.copytree(project.root, copy.root, symlinks=True)
    failed = json.loads((project.root / "reports/metrics/digits/unstable.json").read_bytes())["failed"]
    copy.edit("params.yaml", "seeds: [0, 1, 2, 3]", f"seeds: [{', '.join(failed)}]")
    copy.repro()
    text = (copy.root / "reports/comparison.md").read_text()
    assert f"unstable (0 of {len(failed)} seeds)" in text
    assert "not defined: all its runs have failed." in text
    metrics = json.loads((copy.root / "reports/metrics/digits/unstable.json").read_bytes())
    assert metrics["summary"] == metrics["seeds"] == {}
    copy.edit("params.yaml", "variants: [vae, unstable]", "variants: [unstable]")
    done = copy.run("dvc", "repro")
    assert done.returncode != 0
    assert re.search(r"error: digits: every run has failed, e\.g\. unstable seed \d: train_loss is nan", done.stderr)


def test_a_stage_whose_worker_is_killed_names_the_run_and_keeps_the_others(project: Checkout) -> None:
    """As the system does when memory runs out."""
    shutil.rmtree(project.root / ".aebench/store")
    project.edit("params.yaml", "epochs: 4", "epochs: 150")
    before = (project.root / "runs/digits/vae/seed-0/model.safetensors").read_bytes()
    with project.start("python", "stages/train.py", "digits", "vae") as stage:
        assert stage.stdout
        while "epochs" not in stage.stdout.readline():
            pass
        children = subprocess.run(["pgrep", "-P", str(stage.pid)], capture_output=True, text=True, check=True)
        os.kill(int(children.stdout.split()[0]), signal.SIGKILL)
        *_, last = stage.communicate()[0].splitlines()
    assert stage.returncode == 1
    assert re.fullmatch(r"error: vae seed \d: its process was killed, perhaps for want of memory; try fewer \S+", last)
    assert len(list((project.root / ".aebench/store").glob("*.run"))) == 3
    assert (project.root / "runs/digits/vae/seed-0/model.safetensors").read_bytes() == before  # nothing half done
    done = project.run("python", "stages/train.py", "digits", "vae")
    assert done.returncode == 0
    assert done.stderr.count("vae seed") < 3 + 2 * 10 + 3  # three names from the store, one run's lines
    project.edit("params.yaml", "epochs: 150", "epochs: 4")
    project.repro()


@pytest.mark.parametrize(
    ("stage", "file"),
    [
        ("train.py digits vae", r"runs/digits/vae/seed-0/\S+"),
        ("evaluate.py digits vae", r"evaluations/digits/vae/seed-0\.npz"),
        ("baseline.py digits", r"evaluations/digits/baselines\.npz"),
        ("report.py", r"reports/figures/digits/\S+"),
    ],
)
def test_a_full_disk_is_one_line_that_names_the_file(project: Checkout, stage: str, file: str) -> None:
    """A limit on the size of files stands for the disk, in units of 1024 bytes."""
    done = project.run("bash", "-c", f"rm -rf .aebench/store; ulimit -f 8; python stages/{stage}")
    assert done.returncode == 1
    *_, last = done.stderr.splitlines()
    assert re.fullmatch(rf"error: \S*/{file} cannot be written: File too large", last)
    assert "Traceback" not in done.stderr
    assert project.run("python", *f"stages/{stage}".split()).returncode == 0
    assert project.git("status", "--porcelain", "--", "dvc.lock", "src") == "?? dvc.lock\n"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("python stages/train.py digits vae", r"error: \S+ cannot be (made|written|removed): {why}"),
        ("python stages/evaluate.py digits vae", r"error: \S+ cannot be (made|written|removed): {why}"),
        ("python stages/report.py", r"error: \S+ cannot be (made|written|removed): {why}"),
        # In the words of the check, where it runs first, or in DVC's own.
        (shlex.join((*MAKE, "repro")), r"error: \S+ cannot be (made|written|removed): {why}|ERROR: .*{why}: \S+"),
        ("dvc repro", r"ERROR: .*{why}: \S+"),
    ],
    ids=("train", "evaluate", "report", "make repro", "dvc repro"),
)
def test_a_read_only_checkout_is_one_line(project: Checkout, tmp_path: Path, command: str, said: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(project.root, copy, symlinks=True)
    shutil.rmtree(copy / ".aebench" / "store", ignore_errors=True)
    command = f"PYTHONDONTWRITEBYTECODE=1 {command}"
    if os.geteuid() == 0:  # whom no permission stops: a mount that only this command sees
        mount = f"mount --bind '{copy}' '{copy}' && mount -o remount,ro,bind '{copy}'"
        if subprocess.run(["unshare", "--mount", "sh", "-c", mount], capture_output=True, check=False).returncode:
            pytest.skip("root may not mount anything here")
        whole = ["unshare", "--mount", "sh", "-c", f"{mount} && cd '{copy}' && {command}"]
    else:
        subprocess.run(["chmod", "-R", "a-w", str(copy)], check=True)
        whole = ["sh", "-c", command]
    done = Checkout(copy).run(*whole, LC_ALL="C")
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    why = "(Permission denied|Read-only file system)"
    (line,) = (line for line in done.stderr.splitlines() if re.search(why, line) and not line.startswith("store:"))
    assert re.fullmatch(said.format(why=why), line)


def test_two_dvc_repro_at_once_leave_the_first_alone(project: Checkout) -> None:
    project.edit("params.yaml", "epochs: 4", "epochs: 5")
    with project.start("dvc", "repro") as first:
        assert first.stdout
        while "Running stage 'train@digits-vae'" not in first.stdout.readline():
            pass
        second = project.run("dvc", "repro")
        assert second.returncode != 0
        assert "is busy" in second.stderr
        output = first.communicate()[0]
    assert first.returncode == 0, output
    assert project.repro() == ["check", "track"]


def states(project: Checkout) -> set[str]:
    """What MLflow says of its runs, as its database has it."""
    with closing(sqlite3.connect(f"file:{project.root / 'mlflow.db'}?mode=ro", uri=True)) as database:
        return {state for (state,) in database.execute("select status from runs where lifecycle_stage = 'active'")}


def at_work(running: "subprocess.Popen[str]", project: Checkout, stage: str, sign: str | None) -> None:
    """Wait until a stage of a `dvc repro` has begun and says `sign`; without one, until MLflow has a run in work."""
    assert running.stdout
    for awaited in filter(None, (f"Running stage '{stage}'", sign)):
        while awaited not in (line := running.stdout.readline()):
            assert line, f"ended before {awaited}"
    while not sign and "RUNNING" not in states(project):
        with pytest.raises(subprocess.TimeoutExpired):
            running.wait(0.02)


def alive(session: int) -> list[str]:
    """The processes of a session that have not ended."""
    listed = subprocess.run(
        ["ps", "--sid", str(session), "-o", "state=,args="], capture_output=True, text=True, check=False
    )
    return [line for line in listed.stdout.splitlines() if not line.startswith("Z")]


@pytest.mark.parametrize(
    ("stage", "sign"),
    [("train@digits-unstable", " epochs, "), ("evaluate@digits-vae", " images, "), ("track", None)],
)
def test_an_interrupt_ends_all_within_two_seconds_and_leaves_no_run_that_claims_to_run(
    project: Checkout, stage: str, sign: str | None
) -> None:
    params = project.root / "params.yaml"
    params.write_text(re.sub(r"epochs: \d+", "epochs: 100", params.read_text()))  # long enough to be in the middle
    shutil.rmtree(project.root / ".aebench" / "store", ignore_errors=True)  # there must be something to do
    with project.start("dvc", "repro") as running:
        at_work(running, project, stage, sign)
        os.killpg(running.pid, signal.SIGINT)
        interrupted = time.monotonic()
        output = running.communicate(timeout=60)[0]  # ends when all that hold its output have
        assert time.monotonic() - interrupted < 2 * slowdown()
        assert alive(running.pid) == []
    assert running.returncode != 0
    assert "Traceback" not in output
    assert states(project) <= {"FINISHED", "FAILED", "KILLED"}  # before the next sync, which would replace them


def test_after_interrupts_the_pipeline_goes_on_to_its_end(project: Checkout) -> None:
    assert "track" in project.repro()
    assert states(project) == {"FINISHED", "FAILED"}
    assert project.repro() == ["check", "track"]
