"""Nothing that is read runs, no name leaves its folder or becomes markup, and no server or program calls out."""

import ast
import json
import re
import shutil
import socket
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import psutil
import pytest
from checkout import Checkout, working_tree
from conftest import RESULTS, ROOT
from servers import answers

from aebench import yaml
from aebench.errors import ConfigError
from aebench.paths import Layout
from aebench.pruning import prune
from aebench.training.settings import read_params

CODE = [path for folder in ("src", "stages", "scripts", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
# Processes of ours talk to each other in pickles, over pipes that nobody else writes to.
PIPES = {ROOT / "src/aebench/execution/cluster.py", ROOT / "src/aebench/execution/subprocess_worker.py"}
UNPICKLING = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "jsonpickle"}
RUNS_CODE = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "torch.load", "torch.jit.load"}
ARCHIVES = {"np.load", "numpy.load"}


def dangers(source: str, pipes: bool = False) -> list[str]:
    """What in this source would run, or unpickle, what it reads."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            found += [name for name in names if name.split(".")[0] in UNPICKLING - ({"pickle"} if pipes else set())]
        if not isinstance(node, ast.Call):
            continue
        name, options = ast.unparse(node.func), {each.arg: ast.unparse(each.value) for each in node.keywords}
        if name in RUNS_CODE or (name in ARCHIVES and options.get("allow_pickle") != "False"):
            found.append(name)
        if name in ("read_pickle", "pd.read_pickle") or options.get("allow_pickle") == "True":
            found.append(name)
        if name.split(".")[-1] == "YAML" and options.get("typ") != "'safe'":
            found.append(name)
        if name in ("yaml.load", "yaml.unsafe_load", "yaml.full_load"):
            found.append(name)
        if options.get("shell", "False") != "False":
            found.append(f"{name} with a shell")
    return found


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_that_is_read_is_run(path: Path) -> None:
    assert dangers(path.read_text(encoding="utf-8"), path in PIPES) == []


@pytest.mark.parametrize(
    "source",
    [
        *("import pickle", "from joblib import load", "torch.load(path)", "np.load(path)", "YAML().load(text)"),
        *("np.load(path, allow_pickle=True)", "yaml.load(text)", "YAML(typ='unsafe')", "eval(text)", "os.system(name)"),
        *("subprocess.run(name, shell=True)", "pd.read_pickle(path)"),
    ],
)
def test_the_search_finds_what_it_is_for(source: str) -> None:
    assert dangers(source)
    assert not dangers("np.load(path, allow_pickle=False); YAML(typ='safe').load(text); safetensors.numpy.load(x)")


def test_processes_unpickle_what_comes_through_their_pipes_alone() -> None:
    sources = set()
    for path in PIPES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("pickle.load", "pickle.loads"):
                sources.add(ast.unparse(node.args[0]))
    assert sources == {"process.stdout", "sys.stdin.buffer", "packed"}  # packed has come through the second


# Names

HOSTILE = [
    *("../up", "..", "/etc", "a/b", "a\\b", "a b", ".hidden", "-rf", "a.b", "~", "é", "A", "a\n", "\x00", "", "a" * 65),
    *("<script>alert(1)</script>", "a&b", '"><img src=x onerror=alert(1)>', "\\input{/etc/passwd}", "a%b", "$x$"),
    *("$(touch here)", "`touch here`", "a;touch here", "a|b", "a' or ''='", "${seeds}", "a@b", "*", "a,b"),
]


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("key", ["models", "variants", "datasets", "experiment"])
def test_a_name_is_letters_and_digits(tmp_path: Path, name: str, key: str) -> None:
    if (key, name) in (("experiment", "a.b"), ("experiment", "A"), ("experiment", "a" * 65)):
        pytest.skip("an experiment may be named so")
    content = yaml.read(ROOT / "params.yaml")
    if key in ("models", "variants"):
        content["models"][name] = {"kind": "ae"}
    if key in ("variants", "datasets"):
        content[key] = [name]
    if key == "experiment":
        content["tracking"]["experiment"] = name
    (tmp_path / "params.yaml").write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=f"^params.yaml: (line 1|{key}|models|tracking)") as caught:
        read_params(tmp_path / "params.yaml")
    assert str(caught.value).isprintable()


def test_pruning_removes_nothing_that_a_link_leads_to(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(RESULTS)
    params = read_params(tmp_path / "params.yaml")
    outside, root = tmp_path / "outside", tmp_path / "checkout"
    for folder in (outside / "deep", root / "runs/digits/old", root / "runs/gone/ae", root / "reports/metrics"):
        folder.mkdir(parents=True)
        (folder / "file.json").write_text("kept?")
    (root / "runs/digits/linked").symlink_to(outside)
    (root / "runs/linked").symlink_to(outside)
    (root / "reports/metrics/linked").symlink_to(outside / "deep")
    prune(params, Layout(root))
    assert (outside / "deep/file.json").read_text() == "kept?"
    assert not (root / "runs/digits/linked").is_symlink()
    assert not (root / "runs/digits/old").exists()
    assert not (root / "runs/gone/ae").exists()


@pytest.mark.parametrize(
    ("locked", "said"),
    [("runs/digits", "runs/digits/old cannot be removed"), (".", "dvc.lock cannot be written")],
)
def test_pruning_what_may_not_be_removed_is_one_line(tmp_path: Path, locked: str, said: str) -> None:
    project = working_tree(tmp_path)
    (tmp_path / "params.yaml").write_text(RESULTS)
    (tmp_path / "dvc.lock").write_text("stages:\n  train@digits-old:\n    cmd: no more\n")
    (tmp_path / "runs/digits/old").mkdir(parents=True)
    (tmp_path / locked).chmod(0o555)
    done = project.run(*project.unprivileged(sys.executable, "stages/check.py"))
    assert (done.returncode, done.stderr) == (1, f"error: {tmp_path}/{said}: Permission denied\n")


@pytest.mark.parametrize("arguments", [["../../etc", "ae"], ["fashion_mnist", "../../etc"]])
def test_a_stage_takes_only_names_of_params_yaml(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "stages/train.py"), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert re.fullmatch(r"error: '.*' is not among (datasets|variants) in params.yaml, allowed: .*\n", done.stderr)


# Markup, from strings in files that another has written

MARKUP = "<script>window.owned=1</script><img src=x onerror=owned()> \\input{x} $y$ 50 % a|b\n\n# head `code` \\\\ & #"


class Structure(HTMLParser):
    """The elements of a page, those with attributes that run code, and what stands in scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: Counter[str] = Counter()
        self.handlers: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        self.handlers += [name for name, _ in attrs if name.startswith("on")]


@pytest.fixture
def copy(made: Checkout, tmp_path: Path) -> Checkout:
    shutil.copytree(made.root, tmp_path / "copy", symlinks=True)
    return Checkout(tmp_path / "copy")


@pytest.mark.slow
def test_strings_in_files_do_not_become_markup(copy: Checkout) -> None:
    before = Structure((copy.root / "reports/index.html").read_text())
    path = copy.root / "reports/metrics/digits/cvae.json"
    metrics = json.loads(path.read_text())
    del metrics["summary"]["knn_accuracy"]
    metrics["not_defined"]["knn_accuracy"] = MARKUP
    metrics["weights_sha256"]["0"] = MARKUP
    metrics["dataset"] = metrics["variant"] = metrics["kind"] = MARKUP
    for key in ("likelihood", "likelihood_note", "proposal", "probe_codes"):
        metrics["protocol"][key] = MARKUP
    metrics["protocol"][MARKUP] = {MARKUP: MARKUP}
    path.write_text(json.dumps(metrics))
    about = copy.root / "reports/baselines/digits.json"
    baselines = json.loads(about.read_text())
    baselines["data"]["classes"][0] = f"</script>{MARKUP}"  # which stands in a script, too
    about.write_text(json.dumps(baselines))
    done = copy.run(sys.executable, "stages/report.py")
    assert done.returncode == 0, done.stderr
    after = Structure((copy.root / "reports/index.html").read_text())
    assert after.handlers == []
    # More rows and notes, and code where a pair of backticks is; no element that was not there.
    assert set(after.elements) <= set(before.elements)
    for element in ("script", "img", "style", "link", "meta", "section", "h1", "h2", "h3"):
        assert after.elements[element] == before.elements[element], element
    assert "&lt;script&gt;window.owned=1" in (copy.root / "reports/index.html").read_text()

    markdown = (copy.root / "reports/comparison.md").read_text()
    assert "window.owned=1" in markdown
    assert not re.search(r"<[a-zA-Z/!]", markdown)
    assert "\n# head" not in markdown
    header, _, *rows = [line for line in markdown.splitlines() if line.startswith("| ") or line.startswith("|  |")]
    columns = len(re.findall(r"(?<!\\)\|", header))
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {columns}

    tex = (copy.root / "reports/comparison.tex").read_text()
    for line in tex.splitlines():
        if not line.startswith("%"):
            assert not re.search(r"(?<!\\)[%#]", line)
    assert "\\input" not in tex


def test_text_stays_in_its_line_of_latex() -> None:
    from aebench.reporting.exports import _tex

    assert _tex(MARKUP).count("\n") == 0
    assert "\\input" not in _tex(MARKUP)


@pytest.mark.slow
def test_dvc_runs_no_command_that_a_name_holds(copy: Checkout) -> None:
    content = yaml.read(copy.root / "params.yaml")
    for key in ("variants", "datasets"):
        hostile = [*content[key], "$(touch here)", "a; touch here", "`touch here`", "a && touch here #"]
        (copy.root / "params.yaml").write_text(json.dumps(content | {key: hostile}))
        done = copy.run("dvc", "repro")
        assert done.returncode != 0
        assert not list(copy.root.rglob("here"))
        assert (copy.root / "runs/digits/ae/seed-0/model.safetensors").exists()


# What calls out

RECORDER = """\
import os, socket
inner = socket.getaddrinfo
def getaddrinfo(host, *rest, **more):
    with open(os.environ["CALLED"], "a") as log:
        log.write(f"{host}\\n")
    return inner(host, *rest, **more)
socket.getaddrinfo = getaddrinfo
"""


@pytest.fixture
def recorded(tmp_path: Path) -> dict[str, str]:
    """An environment in which Python writes down every host whose address it looks up."""
    (tmp_path / "recorder").mkdir()
    (tmp_path / "recorder" / "sitecustomize.py").write_text(RECORDER)
    (tmp_path / "called").touch()
    return {"PYTHONPATH": str(tmp_path / "recorder"), "CALLED": str(tmp_path / "called")}


def called(environment: dict[str, str]) -> set[str]:
    hosts = set(Path(environment["CALLED"]).read_text().splitlines())
    return hosts - {"127.0.0.1", "localhost", "None", "::1", socket.gethostname()}


@pytest.mark.slow
def test_the_pipeline_calls_nobody(copy: Checkout, recorded: dict[str, str]) -> None:
    check = copy.run(sys.executable, "-c", "import socket; socket.getaddrinfo('127.0.0.1', 1)", **recorded)
    assert check.returncode == 0
    assert Path(recorded["CALLED"]).read_text() == "127.0.0.1\n"  # the record is kept
    for command in (["dvc", "repro"], [sys.executable, "stages/track.py", "always"], ["dvc", "metrics", "show"]):
        done = copy.run(*command, **recorded)
        assert done.returncode == 0, done.stderr
    assert called(recorded) == set()


def test_dvc_sends_no_usage_and_asks_for_no_update() -> None:
    for name in ("analytics", "check_update"):
        done = subprocess.run(["dvc", "config", f"core.{name}"], cwd=ROOT, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "false"


@pytest.mark.slow
def test_the_ui_listens_on_this_machine_alone_and_sends_no_telemetry(copy: Checkout, recorded: dict[str, str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with copy.start(sys.executable, "scripts/ui.py", str(port), **recorded) as server:
        assert answers(server, port)
        family = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
        listening = [c for process in family for c in process.net_connections() if c.status == psutil.CONN_LISTEN]
        assert {(c.laddr.ip, c.laddr.port) for c in listening} == {("127.0.0.1", port)}
        assert all(process.environ()["MLFLOW_DISABLE_TELEMETRY"] == "true" for process in family)
    assert called(recorded) == set()
