from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from aebench.evaluation.metrics import metrics
from aebench.evaluation.statistics import NEEDS_SEEDS, Difference, crossed_bootstrap, paired_difference
from aebench.reporting import pairs as module
from aebench.reporting.pairs import SIGNIFICANT, Pair, compared, leaders, matrix, pairs, table, verdicts
from aebench.reporting.results import Results

IN_NATS = (
    *("iw_log_likelihood_nats", "elbo_nats"),
    *("iw_log_likelihood_given_label_nats", "elbo_given_label_nats"),
)
PROBES = ("probe_accuracy", "probe_accuracy_10_labels", "probe_accuracy_100_labels", "knn_accuracy")
PROTOCOL = {
    "likelihood": "bernoulli",
    "binarization": "none",
    "importance_samples": 100,
    "proposal": "q(z|x)",
    "trained_with_labels": False,
    "evaluation": {"expost": {"importance_samples": 50}},
}


@dataclass(frozen=True)
class FakeCell:
    """What of a cell is looked at: in every metric the same values, or those of `of_metric`."""

    variant: str
    mean: float = 0.0
    protocol: dict[str, Any] = field(default_factory=dict)
    measured: tuple[str, ...] = ("reconstruction_mse", *IN_NATS, *PROBES)
    of_metric: dict[str, float] = field(default_factory=dict)
    without: str = ""
    dataset: str = "digits"
    seeds: tuple[int, ...] = (0, 1, 2)
    gap: float | None = None

    @property
    def data(self) -> dict[str, Any]:
        return {"shape": [1, 8, 8]}

    @property
    def metrics(self) -> dict[str, Any]:
        protocol = {key: value for key, value in (PROTOCOL | self.protocol).items() if key != self.without}
        summary = {metric: {"mean": 0.0} for metric in self.measured}
        summary |= {} if self.gap is None else {"bound_gap_nats": {"mean": self.gap}}
        return {"summary": summary, "protocol": protocol}

    def values(self, metric: str, seeds: Sequence[int] = (0, 1, 2)) -> NDArray[np.float64]:
        assert metric in self.measured
        assert set(seeds) <= set(self.seeds)
        noise = [np.random.default_rng([seed, *self.variant.encode()]).normal(size=50) for seed in seeds]
        return self.of_metric.get(metric, self.mean) + np.stack(noise)


def found_by(*cells: FakeCell) -> list[Pair]:
    return pairs(cells)  # type: ignore[arg-type]


def metrics_paired(*cells: FakeCell) -> set[str]:
    return {pair.metric for pair in found_by(*cells)}


def test_every_pair_is_compared_once_in_every_metric_that_both_have() -> None:
    a, b, c = (FakeCell(name) for name in "abc")
    found = [(pair.metric, pair.a, pair.b) for pair in found_by(a, b, c)]
    expected = {(metric, *names) for metric in a.measured for names in ("ab", "ac", "bc")}
    assert len(found) == len(expected)
    assert set(found) == expected
    poor = replace(c, measured=("reconstruction_mse",))
    assert {pair.metric for pair in found_by(a, b, poor) if "c" in (pair.a, pair.b)} == {"reconstruction_mse"}
    assert found_by(a) == []


def test_variants_are_compared_on_the_seeds_that_all_have() -> None:
    a, b, alone = FakeCell("a", seeds=(0, 1, 2)), FakeCell("b", seeds=(1, 2)), FakeCell("c", seeds=(0,))
    found = found_by(a, b, alone)
    assert {(pair.a, pair.b) for pair in found} == {("a", "b")}  # one seed has no spread
    for pair in found:
        assert pair.difference == paired_difference(a.values(pair.metric, [1, 2]), b.values(pair.metric, [1, 2]))
    assert found_by(FakeCell("a", seeds=(0, 1)), FakeCell("b", seeds=(1, 2))) == []  # nor has one in common


def test_a_pair_is_of_the_first_minus_the_second() -> None:
    a, b = FakeCell("a", 2.0), FakeCell("b", -1.0)
    for pair in found_by(a, b):
        assert pair.difference == paired_difference(a.values(pair.metric), b.values(pair.metric))
        assert pair.difference.mean == pytest.approx(3, abs=0.5)
        resampled = crossed_bootstrap({name: cell.values(pair.metric) for name, cell in {"a": a, "b": b}.items()})
        assert np.mean(resampled["a"] - resampled["b"] < pair.bootstrap[0]) == pytest.approx(0.025, abs=0.001)
        assert np.mean(resampled["a"] - resampled["b"] > pair.bootstrap[1]) == pytest.approx(0.025, abs=0.001)


@pytest.mark.parametrize(
    "other",
    [
        {"likelihood": "gaussian"},
        {"binarization": "stochastic"},
        {"importance_samples": 101},
        {"proposal": "refined"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_nats_of_different_kinds_are_never_compared(other: dict[str, Any]) -> None:
    a, b = FakeCell("a"), FakeCell("b", 100, protocol=other)
    assert metrics_paired(a, b) == {"reconstruction_mse", *PROBES}
    assert metrics_paired(a, replace(a, variant="b")) == {"reconstruction_mse", *IN_NATS, *PROBES}
    c = replace(b, variant="c")
    in_nats = {(pair.a, pair.b) for pair in found_by(a, b, c) if pair.metric in IN_NATS}
    assert in_nats == {("b", "c")}


def test_probes_of_codes_learned_with_and_without_labels_are_never_compared() -> None:
    a, b = FakeCell("a"), FakeCell("b", 100, protocol={"trained_with_labels": True})
    assert metrics_paired(a, b) == {"reconstruction_mse", *IN_NATS}
    c = replace(b, variant="c")
    of_probes = {(pair.a, pair.b) for pair in found_by(a, b, c) if pair.metric in PROBES}
    assert of_probes == {("b", "c")}


def test_a_variant_without_a_likelihood_needs_no_protocol_of_one() -> None:
    plain = FakeCell("ae", measured=("reconstruction_mse",), without="likelihood")
    assert metrics_paired(plain, FakeCell("vae")) == {"reconstruction_mse"}


def test_only_means_with_a_direction_are_compared() -> None:
    measured = ("active_units", "rate_nats", "effective_sample_size", "expost_sigma", "knn_accuracy")
    assert metrics_paired(FakeCell("a", measured=measured), FakeCell("b", measured=measured)) == {"knn_accuracy"}
    assert set(IN_NATS) | set(PROBES) <= set(compared())


@pytest.mark.parametrize("metric", ["reconstruction_mse", "denoising_mse", "reconstruction_bce_nats"])
def test_less_is_better_where_the_arrow_points_down(metric: str) -> None:
    high, low = FakeCell("high", 5.0, measured=(metric,)), FakeCell("low", -5.0, measured=(metric,))
    assert [pair.better for cells in ((high, low), (low, high)) for pair in found_by(*cells)] == [("low", "high")] * 2


@pytest.mark.parametrize("metric", ["elbo_nats", "expost_log_likelihood_nats", "probe_accuracy"])
def test_more_is_better_where_the_arrow_points_up(metric: str) -> None:
    high, low = FakeCell("high", 5.0, measured=(metric,)), FakeCell("low", -5.0, measured=(metric,))
    assert [pair.better for cells in ((high, low), (low, high)) for pair in found_by(*cells)] == [("high", "low")] * 2


def pair(metric: str, a: str, b: str, mean: float, p_holm: float) -> Pair:
    return Pair(metric, a, b, Difference(mean, mean - 1, mean + 1, 0.001), p_holm, (mean - 1, mean + 1), 4)


def test_better_asks_for_the_corrected_p_value() -> None:
    assert pair("knn_accuracy", "a", "b", 1, SIGNIFICANT).better is None
    assert pair("knn_accuracy", "a", "b", 1, 0.049).better == ("a", "b")


BOUND = ("iw_log_likelihood_nats",)


@pytest.mark.parametrize(
    ("gap_of_a", "gap_of_b", "better"),
    [
        (0.0, 0.0, True),
        (2.0, 2.0, True),
        (2.0, 4.0, False),
        (4.0, 2.0, False),
        (6.0, 0.0, False),
        (0.0, 6.0, False),
        (-1e9, 4.0, True),  # noise: it does not make the other's gap smaller
        (-1e9, 6.0, False),
        (None, 6.0, False),  # the difference may be the estimators' own
        (6.0, None, False),
    ],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_bounds_differ_only_by_more_than_their_gaps(
    gap_of_a: float | None, gap_of_b: float | None, better: bool, sign: int
) -> None:
    a = FakeCell("a", measured=BOUND, gap=gap_of_a)
    b = FakeCell("b", 5.0 * sign, measured=BOUND, gap=gap_of_b)
    (found,) = found_by(a, b)
    assert abs(found.difference.mean) == pytest.approx(5, abs=0.5)
    assert found.p_holm < 0.001
    assert found.better == ((("b", "a") if sign == 1 else ("a", "b")) if better else None)
    assert found.gap_missing == (None in (gap_of_a, gap_of_b))


def test_the_gap_leaves_difference_interval_and_p_as_they_are() -> None:
    a, b = FakeCell("a", measured=BOUND), FakeCell("b", 5.0, measured=BOUND)
    (without,), (found,) = found_by(a, b), found_by(replace(a, gap=3.0), replace(b, gap=4.0))
    assert replace(found, gap=None) == without
    assert found.gap == 7.0


def test_what_is_no_bound_has_no_gap() -> None:
    measured = ("knn_accuracy", "expost_log_likelihood_nats")
    found = found_by(FakeCell("a", measured=measured, gap=9.0), FakeCell("b", 5.0, measured=measured, gap=9.0))
    assert [(each.gap, each.gap_missing, each.better) for each in found] == [(None, False, ("b", "a"))] * 2


def test_bits_are_held_against_the_same_gap_as_nats() -> None:
    nats = 64 * np.log(2)  # of one bit for each of 8 × 8 pixels
    measured = ("bits_per_dimension",)
    few, many = FakeCell("few", measured=measured, gap=2 * nats), FakeCell("many", 5.0, measured=measured, gap=0.0)
    (found,) = found_by(few, many)
    assert found.gap == pytest.approx(2)
    assert found.better == ("few", "many")
    assert [each.better for each in found_by(replace(few, gap=6 * nats), many)] == [None]


def test_every_looseness_is_a_figure_that_nothing_is_better_in() -> None:
    for metric in metrics().values():
        if metric.looseness and (of := metrics().get(metric.looseness.metric)):
            assert not of.better
            assert metric.compared


def test_a_difference_within_the_gap_says_so() -> None:
    near = replace(pair(*BOUND, "a", "b", 0.1, 0.01), gap=0.123)
    far, unsure = replace(near, a="c", gap=0.01), replace(near, a="d", p_holm=0.5)
    unmeasured, shown = replace(near, gap=None), pair("knn_accuracy", "a", "b", 1, 0.01)
    says = [each.verdict for each in (near, far, unsure, unmeasured, shown)]
    assert says == ["within the bounds' gap of 0.123 nats", "c", "not shown", "not shown", "a"]
    assert verdicts([near, far, unsure]) == {BOUND[0]: f"c better than b; a and b differ {says[0]}"}
    assert verdicts([near]) == {BOUND[0]: f"a and b differ {says[0]}"}
    assert leaders([near]) == {}
    assert matrix([near], "ab")["a"]["b"] == ([], [])


def test_the_correction_is_within_one_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[list[float]] = []

    def spy(p_values: list[float]) -> list[float]:
        given.append(p_values)
        return [0.25 + p / 2 for p in p_values]

    monkeypatch.setattr(module, "holm", spy)
    a = FakeCell("a", measured=("elbo_nats", "knn_accuracy"))
    d = replace(a, variant="d", protocol={"likelihood": "gaussian"})
    found = found_by(a, replace(a, variant="b", mean=0.1), replace(a, variant="c", mean=0.3), d)
    assert sorted(map(len, given)) == [3, 6]  # d's nats compare with no other's
    for metric in ("elbo_nats", "knn_accuracy"):
        of_metric = [pair for pair in found if pair.metric == metric]
        assert [pair.difference.p for pair in of_metric] in given
        assert [pair.p_holm for pair in of_metric] == [0.25 + pair.difference.p / 2 for pair in of_metric]


def test_two_variants_are_judged_more_mildly_than_ten() -> None:
    measured = ("knn_accuracy",)
    few = [FakeCell(name, mean, measured=measured) for name, mean in (("a", 0.0), ("b", 0.6))]
    more = [FakeCell(f"other {i}", 0.0, measured=measured) for i in range(8)]
    (alone,) = found_by(*few)
    (among_others,) = (pair for pair in found_by(*few, *more) if (pair.a, pair.b) == ("a", "b"))
    assert alone.difference == among_others.difference
    assert alone.p_holm == alone.difference.p < among_others.p_holm


def test_verdicts_in_words() -> None:
    found = [
        pair("knn_accuracy", "a", "b", -1, 0.01),
        pair("knn_accuracy", "a", "c", 1, 0.01),
        pair("knn_accuracy", "b", "c", 1, 0.01),
        pair("reconstruction_mse", "a", "b", -1, 0.01),
        pair("reconstruction_mse", "a", "c", 1, 0.5),
        pair("elbo_nats", "a", "b", 1, 0.9),
    ]
    assert verdicts(found) == {
        "reconstruction_mse": "a better than b",
        "elbo_nats": "no difference shown",
        "knn_accuracy": "b better than a, c; a better than c",
    }
    assert verdicts([]) == {}


def test_one_seed_shows_nothing_and_the_table_says_why() -> None:
    one = tuple(FakeCell(name, mean, seeds=(0,)) for name, mean in (("a", 0), ("b", 9)))
    assert found_by(*one) == []
    written = table({"digits": []}, Results(one, {"digits": {}}))  # type: ignore[arg-type]
    assert len(written) == 1
    assert written["dataset"].item() == "digits"
    assert written["not_defined"].item() == NEEDS_SEEDS == "needs at least two seeds"
    assert written.drop(columns=["dataset", "not_defined"]).isna().all(axis=None)


def test_the_table_has_a_line_a_pair_and_names_the_better_one() -> None:
    few = tuple(FakeCell(name, mean, measured=("knn_accuracy",)) for name, mean in (("a", 0.0), ("b", 9.0), ("c", 9.0)))
    other = replace(few[0], dataset="mnist", seeds=(0,))
    found = found_by(*few)
    results = Results((*few, other), {"digits": {}, "mnist": {}})  # type: ignore[arg-type]
    written = table({"digits": found, "mnist": []}, results)
    assert written["dataset"].tolist() == ["digits"] * 3 + ["mnist"]
    assert written["better"].tolist()[:2] == ["b", "c"]
    assert pd.isna(written["better"][2])  # b and c
    assert written["not_defined"].isna().tolist() == [True] * 3 + [False]
    for line, each in zip(written.to_dict("records")[:3], found, strict=True):
        assert (line["metric"], line["a"], line["b"]) == ("knn_accuracy", each.a, each.b)
        numbers = [line[key] for key in ("difference", "ci95_low", "ci95_high", "p", "p_holm")]
        difference = each.difference
        assert numbers == [difference.mean, difference.low, difference.high, difference.p, each.p_holm]
        assert (line["bootstrap_low"], line["bootstrap_high"]) == each.bootstrap


def test_the_table_has_the_gap_of_each_pair_or_says_that_it_is_not_known() -> None:
    gaps = {"a": 1.0, "b": 2.5, "c": None}
    cells = tuple(FakeCell(name, measured=(*BOUND, "knn_accuracy"), gap=gap) for name, gap in gaps.items())
    written = table({"digits": found_by(*cells)}, Results(cells, {"digits": {}}))  # type: ignore[arg-type]
    of_bound, of_other = (written[written["metric"] == metric] for metric in (*BOUND, "knn_accuracy"))
    assert of_bound["bound_gap"].tolist()[0] == 3.5
    assert of_bound["bound_gap"].isna().tolist() == [False, True, True]
    assert of_bound["not_defined"].tolist()[1:] == ["bound_gap: not measured for both"] * 2
    assert pd.isna(of_bound["not_defined"].iloc[0])
    assert of_other[["bound_gap", "not_defined"]].isna().all(axis=None)
