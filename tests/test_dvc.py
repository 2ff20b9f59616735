"""DVC as its users know it: differences, plots, experiments in copies, a remote; on a small data set of one's own."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from browser import open_page
from checkout import Checkout, working_tree
from test_pipeline import PARAMS, runs_in

pytestmark = pytest.mark.slow

# A change to the code that shows in the report, so that it is known whose code ran.
MARK = ("raw pixels", "pixels as they are")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A copy of the working tree with two variants on a data set that git ignores, committed with its results."""
    clone = working_tree(tmp_path_factory.mktemp("dvc"))
    images = np.random.default_rng(0).integers(0, 256, (240, 6, 6), dtype=np.uint8)
    np.savez(clone.root / "datasets" / "dots.npz", images=images, labels=np.arange(240) % 3)
    params = PARAMS.replace("[digits]", "[dots]").replace("[ae, vae, cvae, cvae_concat]", "[ae, vae]")
    params = params.replace("seeds: [0, 1]", "seeds: [0]")
    (clone.root / "params.yaml").write_text(params.replace("validation_fraction: 0.1", "validation_fraction: 0.3"))
    clone.git("config", "user.name", "test")
    clone.git("config", "user.email", "test@localhost")
    assert clone.repro()[:2] == ["check", "fetch@dots"]
    clone.commit("results")
    assert "datasets/dots.npz" not in clone.git("ls-files")
    return clone


def out(project: Checkout, *command: str) -> str:
    done = project.run(*command)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def experiments(project: Checkout) -> dict[str, str]:
    """The commits of the experiments, by their names."""
    found = {}
    for baseline in json.loads(out(project, "dvc", "exp", "show", "--json")):
        for experiment in baseline.get("experiments") or ():
            for revision in experiment["revs"]:
                found[revision["name"]] = revision["rev"]
    return found


def betas(project: Checkout) -> dict[float, str]:
    """The β of every run of the variant in the project's store, with whether it is superseded."""
    return {
        float(run["params"]["model.beta"]): run["tags"].get("aebench.superseded", "false")  # type: ignore[index,attr-defined]
        for run in runs_in(project)
        if run["tags"]["aebench.cell"] == "dots/vae/seed-0"  # type: ignore[index]
    }


def test_a_fresh_clone_reproduces_the_results_bit_for_bit(project: Checkout, tmp_path: Path) -> None:
    fresh = Checkout(tmp_path / "fresh")
    project.git("clone", "--quiet", str(project.root), str(fresh.root))
    shutil.copy(project.root / "datasets" / "dots.npz", fresh.root / "datasets")
    assert len(fresh.repro()) == 9
    assert fresh.git("status", "--porcelain") == ""
    assert fresh.snapshot() == project.snapshot()


def test_an_experiment_in_a_copy(project: Checkout) -> None:
    """It finds the data that git ignores, and the one MLflow store; the workspace stays as it was."""
    before = project.snapshot()
    out(project, "dvc", "exp", "run", "--temp", "--name", "temporary", "-S", "models.vae.beta=4")
    assert project.snapshot() == before
    assert project.git("status", "--porcelain") == ""
    assert betas(project) == {1: "false", 4: "false"}
    assert not list((project.root / ".dvc" / "tmp").rglob("mlflow.db"))
    changed = json.loads(out(project, "dvc", "exp", "diff", "main", "temporary", "--json"))
    assert changed["params"] == {"params.yaml": {"models.vae.beta": {"old": 1.0, "new": 4, "diff": 3.0}}}
    assert {name.rsplit(".", 1)[0] for name in changed["metrics"]["reports/summary.json"]} == {"dots.vae"}
    revision = experiments(project)["temporary"]
    assert "dots" in project.git("show", f"{revision}:reports/comparison.md")


def test_a_sweep_in_the_queue_runs_the_code_of_its_copies(project: Checkout) -> None:
    """Three at a time, whose ends meet at the one MLflow store: each run comes there once."""
    project.edit("src/aebench/reporting/tables.py", *MARK)
    out(project, "dvc", "exp", "run", "--queue", "--name", "sweep", "-S", "models.vae.beta=2,3,5")
    project.git("checkout", "--quiet", "src")
    out(project, "dvc", "queue", "start", "--jobs", "3")
    while re.search(r"Running|Queued", status := out(project, "dvc", "queue", "status")):
        pass
    assert status.count("Success") == 3
    found = experiments(project)
    for name in ("sweep-1", "sweep-2", "sweep-3"):
        assert MARK[1] in project.git("show", f"{found[name]}:reports/comparison.md")
    assert MARK[1] not in (project.root / "reports" / "comparison.md").read_text()
    assert project.git("status", "--porcelain") == ""
    assert {1, 2, 3, 5} <= set(betas(project))
    runs = [(run["tags"]["aebench.cell"], run["params"].get("model.beta")) for run in runs_in(project)]  # type: ignore[index,attr-defined]
    assert len(set(runs)) == len(runs)
    assert {run["status"] for run in runs_in(project)} == {"FINISHED"}
    assert set(betas(project).values()) == {"false"}
    out(project, "dvc", "exp", "apply", "sweep-1")
    assert re.search(r"beta: 2\b", (project.root / "params.yaml").read_text())
    out(project, "dvc", "checkout")
    project.git("checkout", "--quiet", ".")
    out(project, "dvc", "checkout")


def test_a_setting_by_option_is_an_edit(project: Checkout) -> None:
    """After `dvc exp run -S` the same edit by hand trains nothing, and ends with the same bytes.

    DVC's cache of runs leaves out stages some of whose outputs are in git, so these two find their own results again.
    """
    before = project.snapshot()
    said = out(project, "dvc", "exp", "run", "-S", "models.vae.beta=6")
    ran = re.findall(r"Running stage '(.*)':", said)
    assert set(ran) == {"check", "train@dots-vae", "evaluate@dots-vae", "report", "track"}
    by_option = project.snapshot()
    assert by_option != before
    project.git("checkout", "--quiet", ".")
    out(project, "dvc", "checkout")
    assert project.snapshot() == before
    project.edit("params.yaml", "objective: elbo, beta: 1.0", "objective: elbo, beta: 6")
    assert project.repro() == ["check", "evaluate@dots-vae", "report", "track"]
    assert project.snapshot() == by_option
    project.git("checkout", "--quiet", ".")
    out(project, "dvc", "checkout")


def test_what_an_edit_of_the_code_reruns(project: Checkout, tmp_path: Path) -> None:
    """Words and what no result depends on: nothing, neither here nor where the results come from DVC's cache."""

    def without_words(checkout: Checkout) -> None:
        checkout.edit("src/aebench/training/train.py", '"""One training loop', '"""A training loop')
        checkout.edit("src/aebench/models/networks/mlp.py", "from torch import", "# As it was.\nfrom torch import")
        variants = checkout.root / "src" / "aebench" / "variants"
        (variants / "mine.py").write_text((variants / "vae.py").read_text().replace('"vae"', '"mine"'))
        (variants / ".#mine.py").symlink_to("someone@somewhere.1234")

    clone = Checkout(tmp_path / "clone")
    project.git("clone", "--quiet", str(project.root), str(clone.root))
    shutil.copytree(project.root / ".dvc" / "cache", clone.root / ".dvc" / "cache")
    shutil.copy(project.root / "datasets" / "dots.npz", clone.root / "datasets")
    out(clone, "dvc", "checkout")
    for checkout in (project, clone):
        without_words(checkout)
        assert checkout.repro() == ["check", "track"]
        assert checkout.git("diff", "--stat", "--", "dvc.lock", "reports") == ""
    (project.root / "src/aebench/variants/.#mine.py").unlink()
    evaluations, trainings = (
        [f"{stage}@dots-{variant}" for variant in ("ae", "vae")] for stage in ("evaluate", "train")
    )
    for name, old, new, ran in (
        ("reporting/figures.py", "#0072B2", "#0072B3", []),
        ("evaluation/likelihoods.py", "import torch\n", "import torch as torch\n", evaluations),
        ("models/networks/mlp.py", "nn.ReLU(inplace=True)", "nn.Tanh()", trainings + evaluations),
        ("variants/vae.py", "self.decoder(z)", "self.decoder(1.0 * z)", ["train@dots-vae", "evaluate@dots-vae"]),
    ):
        project.edit(f"src/aebench/{name}", old, new)
        assert sorted(project.repro()) == sorted(["check", *ran, "report", "track"])
    project.git("checkout", "--quiet", ".")
    (project.root / "src/aebench/variants/mine.py").unlink()
    out(project, "dvc", "checkout")


def test_results_of_code_that_was_edited_after_the_check_are_known_as_such(project: Checkout) -> None:
    before = project.snapshot()
    project.edit("src/aebench/training/optimizers/adam.py", "beta1=0.9", "beta1=0.8")
    out(project, "dvc", "repro", "--single-item", "--force", "train@dots-vae")
    assert project.snapshot() != before
    project.git("checkout", "--quiet", "src")
    assert project.repro() == ["check", "track"]  # DVC has the results of the code as it is now
    assert project.snapshot() == before
    assert project.git("status", "--porcelain") == ""


def test_differences_are_compact(project: Checkout) -> None:
    shown = json.loads(out(project, "dvc", "metrics", "show", "--json"))[""]["data"]
    assert list(shown) == ["reports/summary.json"]
    project.edit("params.yaml", "objective: elbo, beta: 1.0", "objective: elbo, beta: 4.0")
    try:
        assert project.repro() == ["check", "train@dots-vae", "evaluate@dots-vae", "report", "track"]
        lines = out(project, "dvc", "params", "diff").splitlines()
        assert [re.split(r"\s{2,}", line) for line in lines[1:]] == [["params.yaml", "models.vae.beta", "1.0", "4.0"]]
        rows = out(project, "dvc", "metrics", "diff").splitlines()[1:]
        assert rows
        assert all(re.match(r"reports/summary.json  dots\.vae\.\w+ ", row) for row in rows)
        page = project.root / "dvc_plots" / "index.html"
        out(project, sys.executable, "scripts/renderer.py")
        out(project, "dvc", "plots", "diff", "HEAD", "workspace")
        assert '"rev": "HEAD"' in page.read_text()
    finally:
        project.git("checkout", "--quiet", ".")
        out(project, "dvc", "checkout")


@pytest.mark.parametrize("offline", [True, False])
def test_the_page_of_plots_needs_no_network(project: Checkout, tmp_path: Path, offline: bool) -> None:
    out(project, sys.executable, "scripts/renderer.py")
    out(project, "dvc", "plots", "show")
    if not offline:  # without its renderer nothing is drawn: the test can fail
        (project.root / ".aebench" / "vega.js").unlink()
    found = open_page(
        project.root / "dvc_plots" / "index.html",
        tmp_path,
        "({drawn: [...document.querySelectorAll('.vega-embed :is(canvas, svg.marks)')].map((plot) => plot.clientWidth),"
        " requests: performance.getEntriesByType('resource').map(({name}) => name)})",
    )
    if offline:
        assert len(found["drawn"]) == 4
        assert min(found["drawn"]) > 200
        assert found["requests"] == []
    else:
        assert found["drawn"] == []


@pytest.mark.parametrize("change", [("[ae, vae]", "[ae]"), ("fraction: 0.3", "fraction: 0")])
def test_plots_without_a_prior_or_a_validation_split(project: Checkout, change: tuple[str, str]) -> None:
    project.edit("params.yaml", *change)
    project.edit("params.yaml", "select: best_validation", "select: last")
    try:
        project.repro()
        shown = json.loads(out(project, "dvc", "plots", "show", "--json"))
        assert not shown.get("errors")
        cells = {
            name: {value["cell"] for plot in plots for value in plot["content"]["data"]["values"]}
            for name, plots in shown["data"].items()
        }
        assert cells["confusion"] >= {"dots/ae"}
        assert set(cells) == {"reconstruction_error", "loss", "bound", "confusion"}
        assert cells["bound"] == (set() if change[1] == "[ae]" else {"dots/vae"})
    finally:
        project.git("checkout", "--quiet", ".")
        out(project, "dvc", "checkout")


def test_the_results_travel_through_a_remote(project: Checkout, tmp_path: Path) -> None:
    """Somebody else's clone has them all, with the raw data, and nothing is run."""
    out(project, "dvc", "remote", "add", "--default", "store", str(tmp_path / "store"))
    out(project, "dvc", "add", "datasets/dots.npz")
    assert set(project.repro()) <= {"check", "fetch@dots", "track"}
    project.git("add", "--all")
    project.git("commit", "--quiet", "--message", "raw data")
    out(project, "dvc", "push")
    shutil.move(project.root / ".dvc" / "cache", tmp_path / "cache")
    project.git("clone", "--quiet", str(project.root), str(tmp_path / "clone"))
    clone = Checkout(tmp_path / "clone")
    out(clone, "dvc", "pull")
    shutil.move(tmp_path / "cache", project.root / ".dvc" / "cache")
    assert clone.snapshot() == project.snapshot()
    assert set(clone.repro()) <= {"check", "track"}
    assert clone.git("status", "--porcelain") == ""
    assert (clone.root / "datasets" / "dots.npz").is_file()


def test_no_environment_needs_to_be_active(project: Checkout, tmp_path: Path) -> None:
    (project.root / ".venv").symlink_to(sys.prefix)
    bare = tmp_path / "bin"
    bare.mkdir()
    for program in ("git", "sh"):
        (bare / program).symlink_to(str(shutil.which(program)))
    # A Python without any packages, as on a system where nothing is installed.
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "empty"], check=True)
    (bare / "python3").symlink_to(tmp_path / "empty" / "bin" / "python3")
    command = [str(project.root / ".venv" / "bin" / "dvc"), "repro", "--force", "--single-item", "fetch@dots"]
    environment = {"PATH": str(bare), "HOME": os.environ["HOME"]}
    done = subprocess.run(command, cwd=project.root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (project.root / ".venv").unlink()
    command[0] = str(Path(sys.executable).with_name("dvc"))
    done = subprocess.run(command, cwd=project.root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "lacks the dependencies of aebench; run `make repro`, which sets .venv up" in done.stderr
    out(project, "dvc", "checkout")


def stage(project: Checkout, *command: str) -> None:
    done = project.run(*project.unprivileged(sys.executable, f"stages/{command[0]}.py", *command[1:]))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kind", ["hardlink", "symlink"])
def test_a_cache_of_links_stays_what_it_is(project: Checkout, tmp_path: Path, kind: str) -> None:
    """It lies elsewhere; the data set is added to it, and each stage is run by hand with other data and settings."""
    project.git("clone", "--quiet", str(project.root), str(tmp_path / "clone"))
    clone, cache = Checkout(tmp_path / "clone"), tmp_path / "cache"
    shutil.copytree(project.root / ".dvc" / "cache" / "files", cache / "files")
    shutil.copy(project.root / "datasets" / "dots.npz", clone.root / "datasets")
    out(clone, "dvc", "config", "--local", "cache.type", kind)
    out(clone, "dvc", "cache", "dir", "--local", str(cache))
    out(clone, "dvc", "add", "--quiet", "datasets/dots.npz")
    out(clone, "dvc", "checkout")
    linked = [clone.root / name for name in clone.snapshot() if (clone.root / name).is_symlink() is (kind == "symlink")]
    assert clone.root / "runs/dots/vae/seed-0/model.safetensors" in linked
    for path in cache.rglob("*"):
        if path.is_file():
            path.chmod(0o444)
    stage(clone, "fetch", "dots")  # from the link
    stage(clone, "track", "always")
    with np.load(clone.root / "datasets" / "dots.npz") as arrays:
        other = {**arrays, "images": 255 - arrays["images"]}
    (clone.root / "datasets" / "dots.npz").unlink()
    np.savez(clone.root / "datasets" / "dots.npz", **other)
    clone.edit("params.yaml", "objective: elbo, beta: 1.0", "objective: elbo, beta: 4.0")
    before = clone.snapshot()
    for command in (("check",), ("fetch", "dots"), ("train", "dots", "vae"), ("report",)):
        stage(clone, *command)
    after = clone.snapshot()
    for name in ("data/dots.safetensors", "runs/dots/vae/seed-0/model.safetensors", "reports/index.html"):
        assert after[name] != before[name]
    for path in cache.rglob("*"):
        if path.is_file():
            digest = f"{path.parent.name}{path.name.removesuffix('.dir')}"
            assert hashlib.md5(path.read_bytes()).hexdigest() == digest, path


def archive(project: Checkout, root: Path) -> Path:
    """What "Download ZIP" gives."""
    root.mkdir(parents=True)
    subprocess.run(f"git -C '{project.root}' archive HEAD | tar x -C '{root}'", shell=True, check=True)
    return root


def in_another_repository(project: Checkout, root: Path) -> Path:
    root.mkdir()
    Checkout(root).git("init", "--quiet")
    archive(project, root / "vendored")
    Checkout(root).commit("vendored")
    return root / "vendored"


def worktree(project: Checkout, root: Path) -> Path:
    project.git("worktree", "add", "--quiet", "--detach", str(root))
    return root


def submodule(project: Checkout, root: Path) -> Path:
    root.mkdir()
    Checkout(root).git("init", "--quiet")
    Checkout(root).git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(project.root), "part")
    return root / "part"


def shallow_clone(project: Checkout, root: Path) -> Path:
    project.git("clone", "--quiet", "--depth", "1", f"file://{project.root}", str(root))
    return root


def clone_with_line_ends_of_windows(project: Checkout, root: Path) -> Path:
    project.git("clone", "--quiet", "-c", "core.autocrlf=true", str(project.root), str(root))
    return root


def through_a_link(project: Checkout, root: Path) -> Path:
    root.with_name("linked").symlink_to(shallow_clone(project, root))
    return root.with_name("linked")


@pytest.mark.parametrize(
    "place",
    [
        archive,
        in_another_repository,
        worktree,
        submodule,
        shallow_clone,
        clone_with_line_ends_of_windows,
        through_a_link,
    ],
)
def test_wherever_a_checkout_lies_dvc_runs_it(
    project: Checkout, tmp_path: Path, place: Callable[[Checkout, Path], Path]
) -> None:
    """DVC's cache has its results, so that they come back unless something there makes them stale."""
    there = Checkout(place(project, tmp_path / "place"))
    shutil.copy(project.root / "datasets" / "dots.npz", there.root / "datasets")
    out(there, "dvc", "cache", "dir", "--local", str(project.root / ".dvc" / "cache"))
    out(there, sys.executable, "scripts/scm.py")
    done = there.run("dvc", "repro", "--pull", "report", PWD=str(there.root))
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"Running stage '(.*)':", done.stdout) == ["check"]
    assert there.snapshot() == project.snapshot()
    if place is not archive:
        assert there.git("status", "--porcelain", "--", ".") == ""
        return
    there.git("init", "--quiet")  # now there is a repository, and DVC is to know it
    out(there, sys.executable, "scripts/scm.py")
    assert "no_scm" not in (there.root / ".dvc" / "config.local").read_text()
