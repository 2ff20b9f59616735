"""Damaged and hostile files end in one line, and take no more memory than they have bytes."""

import copy
import gzip
import io
import json
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkout import Checkout
from conftest import ROOT, network
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_train import config, silent

from aebench import load_run
from aebench.data import archives, datasets, description
from aebench.data.sources import local_folder
from aebench.errors import TrainingError, UserError
from aebench.paths import Layout
from aebench.reporting import exports, findings, pairs, results, tables
from aebench.reporting.files import Metrics, arrays, document
from aebench.tracking.runs import read_runs
from aebench.tracking.sync_state import SyncState
from aebench.training.run import train_run
from aebench.training.settings import read_params

FUZZING = settings(
    max_examples=60, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)
MANY = settings(FUZZING, max_examples=1000)


def refuses(read: Callable[[], object], size: int) -> str | None:
    """The line with which `read` refuses; none where it is content. Memory stays within what the files justify."""
    tracemalloc.start()
    try:
        said = refusal(read)
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 20_000_000 + 40 * size
    return said


def refusal(read: Callable[[], object]) -> str | None:
    """The line with which `read` refuses; none where it is content."""
    try:
        read()
    except UserError as error:
        said = str(error)
    else:
        return None
    assert said.isprintable(), said
    return said


@st.composite
def spoilt(draw: st.DrawFn, content: bytes) -> bytes:
    """Bytes with a few of them changed, cut, doubled or put in; most often near the beginning, where headers are."""
    for _ in range(draw(st.integers(1, 3))):
        limit = draw(st.sampled_from([16, 400, len(content)]))
        start = draw(st.integers(0, min(limit, len(content))))
        start = draw(st.sampled_from([start, max(0, len(content) - start)]))
        end = min(len(content), start + draw(st.sampled_from([0, 1, 1, 4, 8, 50, len(content)])))
        put_in = draw(st.sampled_from([b"", b"\xff" * 8, b"\0" * 8, b"9" * 12, b"[" * 3000, content[start:end] * 2]))
        content = content[:start] + draw(st.sampled_from([put_in, draw(st.binary(max_size=9))])) + content[end:]
    return content


JSON = st.recursive(
    st.sampled_from([None, True, 0, -1, 1.5, 10**400, 1e308, "", "x", "\n", "<b>", [], {}, [[]], float("nan")]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["0", "mean", "x"]), inner, max_size=3),
    max_leaves=4,
)


@st.composite
def spoilt_json(draw: st.DrawFn, document: Any) -> bytes:
    """A document with a few of its values replaced, removed or added at any depth; or spoilt as bytes."""
    content = json.dumps(document)
    if draw(st.integers(0, 4)) == 0:
        return draw(spoilt(content.encode()))
    tree = json.loads(content)
    for _ in range(draw(st.integers(1, 2))):
        holder, key = None, None
        value = tree
        while isinstance(value, dict | list) and value and (holder is None or draw(st.integers(0, 3))):
            holder, keys = value, sorted(value) if isinstance(value, dict) else range(len(value))
            key = draw(st.sampled_from(list(keys)))
            value = holder[key]
        if holder is None:
            break
        if draw(st.integers(0, 3)) == 0:
            del holder[key]
        else:
            holder[key] = copy.deepcopy(draw(JSON))
    return json.dumps(tree).encode()


# Raw files


def test_a_raw_file_that_is_not_the_published_one_is_never_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [file.name for file in datasets.DATASETS["fashion_mnist"].files]
    header = struct.pack(">IIII", 0x803, 10**9, 28, 28)  # an IDX file that claims 784 GB
    mine = tmp_path / "mine"
    mine.mkdir()
    alone = replace(datasets.DATASETS["fashion_mnist"], sources=(local_folder(mine),), load=pytest.fail)
    monkeypatch.setitem(datasets.DATASETS, "fashion_mnist", alone)  # type: ignore[misc]

    @settings(FUZZING, max_examples=40)
    @given(spoilt(header + bytes(5000)), st.booleans())
    def is_refused(content: bytes, packed: bool) -> None:
        for name in names:
            (mine / name).unlink(missing_ok=True)
            (mine / f"{name}.gz").unlink(missing_ok=True)
            path = mine / (f"{name}.gz" if packed else name)
            path.write_bytes(gzip.compress(content) if packed else content)
        said = refuses(lambda: datasets.fetch("fashion_mnist", tmp_path / "raw", None, silent), len(content))
        assert said
        assert "no source has" in said

    is_refused()


# The data set's file


def small_digits(content: bytes) -> Callable[[], object]:
    return lambda: datasets.load(content, "digits", 0.1)


def check_data(digits_file: Path, how_many: settings) -> int:
    whole, refused = digits_file.read_bytes(), 0

    @how_many
    @given(spoilt(whole))
    def is_refused_or_read(content: bytes) -> None:
        nonlocal refused
        refused += refuses(small_digits(content), len(content)) is not None

    is_refused_or_read()
    return refused


def test_a_spoilt_data_set_is_refused(digits_file: Path) -> None:
    assert check_data(digits_file, FUZZING) > 20


@pytest.mark.slow
def test_a_thousand_spoilt_data_sets_are_refused(digits_file: Path) -> None:
    assert check_data(digits_file, MANY) > 300


def safetensors(header: object, data: bytes = b"") -> bytes:
    text = json.dumps(header).encode() if not isinstance(header, bytes) else header
    return struct.pack("<Q", len(text)) + text + data


HOSTILE = {
    "nothing": b"",
    "a header without end": struct.pack("<Q", 2**60) + b"{",
    "more than there is": safetensors(
        {"train_images": {"dtype": "U8", "shape": [10**12], "data_offsets": [0, 10**12]}}
    ),
    "a shape that overflows": safetensors(
        {"train_images": {"dtype": "F64", "shape": [2**40, 2**40], "data_offsets": [0, 0]}}
    ),
    "deep nesting": safetensors(b'{"x":' + b"[" * 50_000 + b"]" * 50_000 + b"}"),
    "offsets backwards": safetensors({"x": {"dtype": "U8", "shape": [4], "data_offsets": [4, 0]}}, bytes(4)),
    "a type that is none": safetensors({"x": {"dtype": "PICKLE", "shape": [4], "data_offsets": [0, 4]}}, bytes(4)),
    "no images": safetensors({}),
    "a pickle": b"\x80\x04\x95" + bytes(40),
}


@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_hostile_file_is_refused(tmp_path: Path, trained: dict[str, bytes], hostile: str) -> None:
    said = refuses(small_digits(HOSTILE[hostile]), len(HOSTILE[hostile]))
    assert said
    assert "is damaged" in said
    path = tmp_path / "digits.safetensors"
    path.write_bytes(HOSTILE[hostile])
    assert refuses(lambda: datasets.load(path, "digits", 0.1), len(HOSTILE[hostile]))
    write(tmp_path, trained | {"model.safetensors": HOSTILE[hostile]})
    assert refuses(lambda: load_run(tmp_path), len(HOSTILE[hostile]))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("train_images", np.zeros((1437, 1, 8, 8), np.float32)),
        ("train_images", np.zeros((1437, 8, 8), np.uint8)),
        ("train_images", np.zeros((1436, 1, 8, 8), np.uint8)),
        ("train_labels", np.full(1437, 10)),
        ("train_labels", np.full(1437, -1)),
        ("train_labels", np.zeros(1437, np.int32)),
        ("train_labels", np.zeros((1437, 1), np.int64)),
        ("test_labels", np.zeros(0, np.int64)),
    ],
)
def test_arrays_of_another_form_are_refused(digits_file: Path, name: str, values: np.ndarray[Any, Any]) -> None:
    from safetensors.numpy import load

    arrays = {**load(digits_file.read_bytes()), name: values}
    said = refuses(small_digits(description.write(arrays, description.describe(digits_file))), 10**6)
    assert said
    assert name.split("_")[0] in said


# A trained run


@pytest.fixture(scope="module")
def trained(digits_file: Path) -> dict[str, bytes]:
    return dict(train_run(config("cvae", conditioning="concat"), "digits", 0, digits_file, silent).files)


def write(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def check_run(folder: Path, trained: dict[str, bytes], how_many: settings) -> int:
    refused = 0

    @how_many
    @given(spoilt(trained["model.safetensors"]), spoilt_json(json.loads(trained["config.json"])), st.booleans())
    def is_refused_or_read(weights: bytes, description: bytes, which: bool) -> None:
        nonlocal refused
        write(folder, trained | ({"model.safetensors": weights} if which else {"config.json": description}))
        refused += refuses(lambda: load_run(folder), len(weights) + len(description)) is not None

    is_refused_or_read()
    return refused


@pytest.mark.parametrize(
    ("path", "value"),
    [
        *((("images", "shape"), shape) for shape in ([1, 8.0, 8.0], "888", [1, -8, -8], [0, 8, 8], [64], None)),
        *((("model", block), {"latent_dim": 3}) for block in ("network", "training")),
        (("network", "architecture"), "transformer"),
        (("network", "channels"), [3] * 9),
    ],
)
def test_a_description_of_what_cannot_be_is_refused(
    tmp_path: Path, digits_file: Path, path: tuple[str, str], value: object
) -> None:
    own = config("vae").model_copy(update={"network": network("conv")})
    files = dict(train_run(own, "digits", 0, digits_file, silent).files)
    description = json.loads(files["config.json"])
    description[path[0]][path[1]] = value
    write(tmp_path, files | {"config.json": json.dumps(description).encode()})
    with pytest.raises(TrainingError, match="does not hold a run of this version"):
        load_run(tmp_path)


def test_a_spoilt_run_is_refused(tmp_path: Path, trained: dict[str, bytes]) -> None:
    assert check_run(tmp_path, trained, FUZZING) > 20


@pytest.mark.slow
def test_a_thousand_spoilt_runs_are_refused(tmp_path: Path, trained: dict[str, bytes]) -> None:
    assert check_run(tmp_path, trained, MANY) > 300


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("network", "hidden"), [65_536, 65_536]),
        (("images", "shape"), [1, 10**5, 10**5]),
        (("images", "class_shares"), [0.1] * 300_000),
        (("network", "latent_dim"), 60_000),
    ],
)
def test_a_description_larger_than_the_weights_takes_no_memory(
    tmp_path: Path, trained: dict[str, bytes], path: tuple[str, str], value: object
) -> None:
    import resource

    description = json.loads(trained["config.json"])
    description[path[0]][path[1]] = value
    write(tmp_path, trained | {"config.json": json.dumps(description).encode()})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # torch's memory is not Python's
    assert refuses(lambda: load_run(tmp_path), 3_000_000)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


# What the report and the sync read


def read_all(root: Path) -> None:
    """All that the report and the sync read, and what the report says of it; its pictures are left out."""
    layout = Layout(root)
    params = read_params(layout.params)
    loaded = results.load(params, layout)
    compared = {dataset: pairs.pairs(cells) for dataset, cells in loaded.datasets()}
    leaders = {dataset: pairs.leaders(each) for dataset, each in compared.items()}
    words = {dataset: findings.in_words(cells, compared[dataset]) for dataset, cells in loaded.datasets()}
    assert tables.markdown(loaded, words, leaders)
    assert exports.latex(loaded, leaders)
    assert len(exports.long_table(loaded))
    assert len(exports.wide_table(loaded))
    assert exports.compact(loaded)
    assert exports.plots(loaded)
    for cell in loaded.cells:
        assert all(cell.arrays(seed) and cell.history(seed) for seed in cell.seeds)
    for variant in read_runs(params, layout):
        assert variant.settings()
        assert variant.metrics()
        assert variant.best is not None
        assert all(run.settings() and list(run.epochs()) and run.wall_times() is not None for run in variant.runs)
        assert all(run.description() for run in variant.runs)
    SyncState(layout).complete()


READ = {
    "metrics": "reports/metrics/digits/cvae.json",
    "baselines": "reports/baselines/digits.json",
    "values": "evaluations/digits/cvae/seed-0.npz",
    "history": "runs/digits/cvae/seed-1/history.csv",
    "configuration": "runs/digits/ae/seed-0/config.json",
    "times": ".aebench/runtime/digits/cvae/seed-0.json",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", READ)
def test_what_the_report_and_the_sync_read_may_be_spoilt(made: Checkout, name: str) -> None:
    path = made.root / READ[name]
    whole, refused = path.read_bytes(), 0
    strategy = spoilt_json(json.loads(whole)) if path.suffix == ".json" else spoilt(whole)

    @settings(FUZZING, max_examples=80)
    @given(strategy)
    def is_refused_or_read(content: bytes) -> None:
        nonlocal refused
        path.write_bytes(content)
        refused += refusal(lambda: read_all(made.root)) is not None

    read_all(made.root)
    try:
        is_refused_or_read()
    finally:
        path.write_bytes(whole)
    # Of these two the report and the sync only show what they find.
    assert refused > {"times": -1, "configuration": 0}.get(name, 10)


@pytest.mark.parametrize("name", ["ci95_images", "ci95", "sd"])
def test_an_interval_that_is_null_is_damage(tmp_path: Path, name: str) -> None:
    committed = json.loads((ROOT / "reports" / "metrics" / "fashion_mnist" / "vae.json").read_bytes())
    path = tmp_path / "vae.json"
    path.write_text(json.dumps(committed))
    assert document(path, Metrics, "evaluate@x")["summary"] == committed["summary"]
    committed["summary"]["reconstruction_mse"] |= {name: None} if name == "ci95_images" else {"sd": None, "ci95": None}
    path.write_text(json.dumps(committed))
    said = refusal(lambda: document(path, Metrics, "evaluate@x"))
    assert said
    assert f"summary.reconstruction_mse.{'sd' if name == 'ci95' else name}" in said


@pytest.mark.parametrize(
    ("lacks", "said"),
    [({"samples"}, None), ({"neighbourhoods", "mapped_images"}, None), ({"mapped_images"}, "points or images")],
)
def test_an_evaluation_may_lack_what_a_kind_of_model_has_not(
    made: Checkout, tmp_path: Path, lacks: set[str], said: str | None
) -> None:
    """Of a variant that has learned from labels, which has samples of each class where it has a prior."""
    layout = Layout(made.root)
    cells = results.load(read_params(layout.params), layout).cells
    cell = next(cell for cell in cells if cell.metrics["protocol"]["trained_with_labels"])
    elsewhere = replace(cell, layout=Layout(tmp_path))
    path = elsewhere.layout.evaluation(cell.dataset, cell.variant, 0)
    path.parent.mkdir(parents=True)
    with np.load(layout.evaluation(cell.dataset, cell.variant, 0)) as whole:
        assert lacks <= {*whole}
        np.savez(path, **{name: whole[name] for name in whole if name not in lacks})
    assert (refusal(lambda: elsewhere.arrays(0)) or "").count(said or "damaged") == bool(said)


@pytest.mark.parametrize("selected", [None, 0, 4, -1, 1.5, "2", [], 2**70])
def test_an_epoch_that_is_not_in_the_history_is_damage(made: Checkout, selected: object) -> None:
    path = made.root / READ["configuration"]
    whole = path.read_text()
    try:
        path.write_text(json.dumps(json.loads(whole) | {"selected_epoch": selected}))
        said = refusal(lambda: read_runs(read_params(made.root / "params.yaml"), Layout(made.root)))
    finally:
        path.write_text(whole)
    assert said
    assert said.startswith(f"{path} is damaged (selected_epoch")
    assert said.endswith("run `dvc repro train@digits-ae`")


def test_a_note_of_the_last_sync_may_be_anything(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("")
    state = SyncState(Layout(tmp_path))
    state.remember()
    assert not state.complete()  # there is no database
    for content in (b"", b"{", b"\xff", b"[]", b"[" * 100_000, b'{"fingerprint": 1}', b"NaN", b"null"):
        state.path.write_bytes(content)
        assert not state.complete()


# Archives


def archive(*members: tuple[str, bytes], how: int = zipfile.ZIP_STORED) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", how) as packed:
        for name, data in members:
            packed.writestr(name, data)
    return content.getvalue()


def npy(shape: str, data: bytes = b"") -> bytes:
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}"
    header = text.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def saved(values: object) -> bytes:
    content = io.BytesIO()
    np.save(content, np.asarray(values), allow_pickle=True)
    return content.getvalue()


ARCHIVES = {
    "a shape beyond the file": (archive(("x.npy", npy("(10**12,)"))), ""),
    "a billion numbers": (archive(("x.npy", npy("(1000000000,)"))), "its size contradicts"),
    "a negative shape": (archive(("x.npy", npy("(-8,)", bytes(64)))), ""),
    "a compressed member": (archive(("x.npy", saved(np.zeros(10**7))), how=zipfile.ZIP_DEFLATED), "larger in memory"),
    "objects": (archive(("x.npy", saved(np.array([{}], dtype=object)))), "Python objects"),
    "text": (archive(("x.npy", saved(["a"]))), "no numbers"),
    "a structure": (archive(("x.npy", saved(np.zeros(3, "f8,i4")))), "no numbers"),
    "code for a header": (archive(("x.npy", npy("__import__('os').system('touch here')"))), ""),
    "another name": (archive(("y.npy", saved([1.0]))), "it holds no 'x'"),
    "no array": (archive(("x.npy", b"nothing")), ""),
    "no archive": (b"PK\3\4 nothing", "zip"),
    "nothing": (b"", "zip"),
    "a pickle": (b"\x80\x04\x95" + bytes(40), "zip"),
}  # fmt: skip


@pytest.mark.parametrize("kind", ARCHIVES)
def test_an_archive_of_another_kind_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    content, reason = ARCHIVES[kind]
    (tmp_path / "values.npz").write_bytes(content)
    monkeypatch.chdir(tmp_path)
    said = refuses(lambda: arrays(tmp_path / "values.npz", "evaluate@x", ["x"]), len(content))
    assert said
    assert "values.npz is damaged (" in said
    assert reason in said
    assert "run `dvc repro evaluate@x`" in said
    assert [path.name for path in tmp_path.iterdir()] == ["values.npz"]


@pytest.mark.parametrize(
    "members",
    [
        [("\x1b[31mred\n\nerror: done.npy", saved([1.0]))],
        [("images.npy", saved([1.0])), ("labels.npy", saved([1])), ("images\x1b[2J.npy", b"")],
        [("images.npy", npy("(1,)")), ("labels.npy", npy("(1,)")), ("\n", npy("(1,)"))],
    ],
)
def test_a_name_in_an_archive_says_nothing_to_a_terminal(tmp_path: Path, members: list[tuple[str, bytes]]) -> None:
    (tmp_path / "mine.npz").write_bytes(archive(*members))
    assert refusal(lambda: archives.read(tmp_path / "mine.npz", lambda line: pytest.fail(line)))


def test_members_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    """A thousand names for one member would make a small file large."""
    path = tmp_path / "values.npz"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("x0.npy", saved(np.zeros(100_000)))
        for number in range(1, 1000):
            again = copy.copy(packed.infolist()[0])
            again.filename = f"x{number}.npy"
            packed.filelist.append(again)
    said = refuses(lambda: arrays(path, "evaluate@x"), path.stat().st_size)
    assert said
    assert "larger in memory" in said


def test_an_archive_of_numpys_comes_back(tmp_path: Path) -> None:
    written = {
        "a": np.arange(6.0).reshape(2, 3),
        "b": np.asfortranarray(np.eye(3)),
        "c": np.zeros((0, 2), np.uint8),
    }
    np.savez(tmp_path / "values.npz", **written)  # type: ignore[arg-type]
    read = arrays(tmp_path / "values.npz", "evaluate@x")
    assert set(read) == set(written)
    for name, values in written.items():
        np.testing.assert_array_equal(read[name], values)
        assert read[name].dtype == values.dtype
