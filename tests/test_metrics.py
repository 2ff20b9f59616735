"""The registry of metrics: nothing is missing from it, and nothing is compared that does not mean the same."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT, tiny
from test_evaluate import EVALUATION, config, small
from test_pairs import PROTOCOL, FakeCell, metrics_paired

from aebench.config import Evaluation, Expost
from aebench.data.datasets import Split, Splits, load
from aebench.errors import ConfigError, UserError
from aebench.evaluation import metrics as registry
from aebench.evaluation.context import Context
from aebench.evaluation.document import document
from aebench.evaluation.evaluate import Failed, measure, numbers
from aebench.evaluation.metrics import (
    Family,
    Measured,
    Metric,
    Nats,
    chosen,
    chosen_metrics,
    everything,
    families,
    main_metrics,
    metrics,
)
from aebench.evaluation.metrics import nothing as compares_with_nothing
from aebench.reporting.pairs import compared
from aebench.tracking import views
from aebench.variants import kinds

MODELS: dict[str, dict[str, Any]] = {
    **{kind: {"kind": kind} for kind in kinds()},
    "cvae_concat": {"kind": "cvae", "conditioning": "concat"},
}
# In the order of the tables.
MAIN = (
    *("reconstruction_mse", "denoising_mse", "iw_log_likelihood_nats", "elbo_nats", "expost_log_likelihood_nats"),
    *("probe_accuracy", "probe_accuracy_100_labels", "knn_accuracy", "active_units"),
)
OTHERS = (
    *("reconstruction_bce_nats", "distortion_nats", "rate_nats", "generalisation_gap_nats", "effective_sample_size"),
    *("pareto_k_unreliable_share", "expost_effective_sample_size", "expost_pareto_k_unreliable_share"),
    *("expost_sigma", "probe_accuracy_10_labels", "probe_accuracy_1000_labels", "generative_accuracy"),
    *("reconstruction_mse_given_label", "denoising_mse_given_label", "iw_log_likelihood_given_label_nats"),
    "elbo_given_label_nats",
)
QUICK = {"importance_samples": 20, "bound_gap_images": 0, "expost": Expost(images=0, importance_samples=1)}
OPTIONAL = tuple(family.name for family in families() if family.optional)
IN_NATS = [name for name in (*MAIN, *OTHERS) if name.endswith("_nats")]


@pytest.fixture
def mine(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Family]]:
    """Families that are put here are registered, after those that there are."""
    added: list[Family] = []
    there = families()
    monkeypatch.setattr(registry, "families", lambda: (*there, *added))
    metrics.cache_clear()
    yield added
    metrics.cache_clear()


def family(*entries: Metric, measured: Measured | None = None) -> Family:
    return Family("mine", entries, lambda context: {}, lambda context: measured or Measured())


def metric(unit: str = "", comparable: registry.Comparability = everything, **changes: Any) -> Metric:
    return Metric("mine", "mine", unit, changes.pop("better", "↑"), comparable, **changes)


def test_the_order_of_the_tables() -> None:
    shown = [name for name in metrics() if name in (*MAIN, *OTHERS)]
    assert shown == [*MAIN, *OTHERS]
    assert [name for name in main_metrics() if name in MAIN] == list(MAIN)


def test_a_new_metric_comes_last_unless_it_names_its_place(mine: list[Family]) -> None:
    mine.append(family(metric(), Metric("early", "early", "", "", compares_with_nothing, place=15)))
    assert list(metrics())[-1] == "mine"
    assert list(metrics())[:3] == ["reconstruction_mse", "early", "denoising_mse"]
    mine.append(family(metric()))
    metrics.cache_clear()
    with pytest.raises(UserError, match=r"mine\.py: found mine, which mine\.py has too, allowed: a name of its own"):
        metrics()


def test_what_is_optional_is_measured_where_it_is_named(mine: list[Family], digits: Splits) -> None:
    default = list(chosen_metrics(()))
    mine.append(family(metric(average=None), measured=Measured(of_run={"mine": 1.0}))._replace(optional=True))
    metrics.cache_clear()
    for extra, added in (((), []), (("mine",), ["mine"])):
        assert list(chosen_metrics(extra)) == [*default, *added]
        how = EVALUATION.model_copy(update={**QUICK, "extra": extra})
        found, reasons = measure(Context(tiny("ae"), digits, how, 0, lambda *_: None))
        assert {*found.per_image, *found.of_run, *reasons} == {*default, *added}
        failed = Failed("it has diverged", 1, (), "none", False, "0")
        assert document("digits", config("ae"), how, {0: failed})["not_defined"].keys() == {*default, *added}


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["gapz"], r"evaluation\.extra\[0\]: found 'gapz', allowed: aggregated_posterior, .*\(did you mean gaps\?\)"),
        (["gaps", "likelihood"], r"evaluation\.extra\[1\]: found 'likelihood', allowed: aggregated_posterior, "),
        (["gaps", "gaps"], r"evaluation\.extra\[1\]: found 'gaps' twice, allowed: each once"),
    ],
)
def test_what_is_named_must_be_optional(extra: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        chosen(extra)


def test_what_is_optional_is_not_in_the_main_table(mine: list[Family]) -> None:
    mine.append(family(metric(main=True))._replace(optional=True))
    metrics.cache_clear()
    with pytest.raises(UserError, match="found mine with main=True in an optional file, allowed: main=False"):
        metrics()


def test_without_extra_the_protocol_does_not_speak_of_it() -> None:
    assert "extra" not in EVALUATION.model_dump(mode="json")
    assert EVALUATION.model_copy(update={"extra": ("gaps",)}).model_dump(mode="json")["extra"] == ["gaps"]


@pytest.mark.parametrize(
    ("how", "images"),
    [(EVALUATION, 30), (EVALUATION.model_copy(update={**QUICK, "extra": OPTIONAL}), 5)],
    ids=["default", "extra"],
)
@pytest.mark.parametrize("name", MODELS)
def test_every_metric_is_measured_or_has_a_reason(
    name: str, how: Evaluation, images: int, digits_file: Path, tmp_path: Path
) -> None:
    data = small(digits_file, tmp_path / "data.safetensors", images)
    model = tiny(**MODELS[name]).requires_grad_(False)
    splits = load(data, "digits", 0.1)
    splits = replace(splits, outside=Split(splits.test.images, torch.full((images,), -1)))
    found, reasons = measure(Context(model, splits, how, 0, lambda *_: None))
    measured = numbers(found)
    assert measured.keys() | reasons.keys() == chosen_metrics(how.extra).keys()
    assert not measured.keys() & reasons.keys()
    assert all(reasons.values())
    protocol = {"images": images, "evaluation": how.model_dump(mode="json")}
    for key in measured:
        assert (key in found.of_run) == (metrics()[key].average is None)
        assert key in found.of_run or found.per_image[key].shape == (metrics()[key].images(protocol),)
        assert key in found.of_run or found.per_image[key].dtype == np.float64
    kept = [*found.per_image, *found.behind, *found.arrays]
    assert len(set(kept)) == len(kept)


def test_a_family_that_does_not_measure_what_it_declares_is_named(
    digits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = family(metric(), measured=Measured(of_run={"other": 1.0}))
    monkeypatch.setattr("aebench.evaluation.evaluate.chosen", lambda extra: (other,))
    with pytest.raises(UserError, match=r"metrics/mine\.py measures of each image \[\], and declares \['mine'\]"):
        measure(Context(tiny("ae"), digits, EVALUATION, 0, print))


def test_a_metric_that_is_not_of_every_image_is_named(digits: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    of_some = family(metric(), measured=Measured({"mine": np.ones(5)}))
    monkeypatch.setattr("aebench.evaluation.evaluate.chosen", lambda extra: (of_some,))
    with pytest.raises(
        UserError, match=r"metrics/mine\.py: found values of the shape \(5,\) for mine, allowed: \(360,\)"
    ):
        measure(Context(tiny("ae"), digits, EVALUATION, 0, print))


@pytest.mark.parametrize("lacking", ["METRICS", "not_defined", "measure"])
def test_a_file_that_lacks_something_is_named(lacking: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("mine")
    module.__file__ = "metrics/mine.py"
    vars(module).update({"METRICS": (), "not_defined": print, "measure": print})
    delattr(module, lacking)
    monkeypatch.setattr(registry, "modules", lambda _: {"mine": module})
    families.cache_clear()
    try:
        with pytest.raises(UserError, match=f"^metrics/mine.py: found no {lacking}, allowed: with one$"):
            families()
    finally:
        families.cache_clear()


def test_every_metric_is_defined_in_the_documentation() -> None:
    rows = re.findall(r"^\| (`.*?) \|", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE)
    defined = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    missing = sorted(metrics().keys() - defined)
    assert not missing, f"docs/metrics.md does not define {', '.join(missing)}"


def test_every_committed_figure_has_an_entry() -> None:
    for path in (ROOT / "reports" / "metrics").rglob("*.json"):
        found = json.loads(path.read_text())
        undefined = {name.partition(".")[0] for name in found["not_defined"]}
        named = undefined.union(found["summary"], *found["seeds"].values())
        assert named <= metrics().keys(), path
    for path in (ROOT / "reports" / "baselines").glob("*.json"):
        assert set().union(*json.loads(path.read_text())["baselines"].values()) <= metrics().keys()


def test_names_bear_their_unit() -> None:
    for name, entry in metrics().items():
        assert re.fullmatch("[a-z][a-z0-9_]*", name)
        assert name.endswith("_nats") == (entry.unit == "nats")
        assert entry.better in ("↑", "↓", "")


def test_without_comparability_there_is_no_metric() -> None:
    with pytest.raises(TypeError, match="comparable"):
        Metric("mine", "mine", "%", "↑")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("entry", "pairs"),
    [
        (metric(), True),
        (metric(comparable=compares_with_nothing), False),
        (metric("nats", everything), False),
        (metric("bits", everything), False),
        (metric("nats", lambda protocol: protocol["likelihood"]), False),
        (metric("nats", lambda protocol: Nats(protocol["likelihood"], protocol["binarization"], "mine", 7)), True),
        (metric(better=""), False),
        (metric(average="median"), False),
        (metric(average=None), False),
    ],
)
def test_only_what_says_what_it_compares_with_gives_pairs(mine: list[Family], entry: Metric, pairs: bool) -> None:
    mine.append(family(entry))
    cells = (FakeCell("a", measured=("mine",)), FakeCell("b", 100, measured=("mine",)))
    assert metrics_paired(*cells) == ({"mine"} if pairs else set())


@pytest.mark.parametrize(
    "other",
    [
        {"likelihood": "gaussian"},
        {"binarization": "stochastic"},
        {"importance_samples": 101, "evaluation": {"expost": {"importance_samples": 51}}},
        {"proposal": "refined"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_nats_of_two_kinds_are_never_paired(other: dict[str, Any]) -> None:
    a, b = FakeCell("a", measured=tuple(IN_NATS)), FakeCell("b", 100, protocol=other, measured=tuple(IN_NATS))
    # What they are not of: x̂'s cross-entropy is no estimate, and the density that is fitted to all has its own p(x|z).
    free = {
        "likelihood": {"reconstruction_bce_nats", "expost_log_likelihood_nats"},
        "importance_samples": {"reconstruction_bce_nats"},
        "proposal": {"reconstruction_bce_nats", "expost_log_likelihood_nats"},
    }
    assert metrics_paired(a, b) == free.get(next(iter(other)), set())
    alike = FakeCell("c", measured=tuple(IN_NATS))
    assert metrics_paired(a, alike) == {name for name in IN_NATS if name in compared()}


def test_a_protocol_that_does_not_say_is_an_error() -> None:
    with pytest.raises(KeyError, match="likelihood"):
        metrics()["elbo_nats"].group({key: value for key, value in PROTOCOL.items() if key != "likelihood"})


def test_mlflows_views_show_what_the_main_table_compares(mine: list[Family]) -> None:
    measured = {"reconstruction_mse", "rate_nats", "active_units"}
    assert views.axes(measured) == ["reconstruction_mse"]
    mine.append(family(metric(main=True)))
    metrics.cache_clear()
    assert views.axes({*measured, "mine"}) == ["reconstruction_mse", "mine"]


def test_titles_are_read_without_torch() -> None:
    code = "import sys; from aebench.tracking import views; from aebench.reporting import pairs, tables; "
    code += "pairs.metrics(); sys.exit('torch' in sys.modules or 'sklearn' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(ROOT / "src")}, check=False).returncode == 0
    )
