"""Which variant is best, in marks, in a matrix and in words."""

from dataclasses import dataclass, replace
from typing import Any

from aebench.evaluation.statistics import Difference
from aebench.reporting.findings import how_compared, in_short
from aebench.reporting.pairs import Pair, leaders, matrix

MSE, PROBE = "reconstruction_mse", "probe_accuracy"


def pair(a: str, b: str, mean: float, p: float, metric: str = MSE) -> Pair:
    return Pair(metric, a, b, Difference(mean, mean - 1, mean + 1, p), p, (mean - 1, mean + 1), 4)


@dataclass(frozen=True)
class FakeCell:
    variant: str
    means: dict[str, float]
    seeds: tuple[int, ...] = (0, 1)

    @property
    def metrics(self) -> dict[str, Any]:
        return {"summary": {metric: {"mean": mean} for metric, mean in self.means.items()}}


def test_a_leader_beats_every_variant_that_it_is_compared_with() -> None:
    a_leads = [pair("a", "b", -1, 0.01), pair("a", "c", -2, 0.01), pair("b", "c", -1, 0.01)]
    assert leaders(a_leads) == {MSE: {"a"}}
    assert leaders([a_leads[0], pair("a", "c", -2, 0.3), a_leads[2]]) == {}
    two_groups = [pair("a", "b", 0.1, 0.01, PROBE), pair("c", "d", -0.1, 0.01, PROBE)]
    assert leaders(two_groups) == {PROBE: {"a", "d"}}
    assert leaders([]) == {}


def test_the_matrix_names_what_is_better_and_what_is_worse() -> None:
    found = [pair("a", "b", -1, 0.01), pair("a", "b", -0.1, 0.01, PROBE), pair("a", "c", -1, 0.2)]
    cells = matrix(found, ["a", "b", "c"])
    assert cells["a"]["b"] == (["reconstruction MSE"], ["logistic probe"])
    assert cells["b"]["a"] == (["logistic probe"], ["reconstruction MSE"])
    assert cells["a"]["c"] == cells["c"]["a"] == cells["a"]["a"] == ([], [])


def test_in_short_says_who_is_best_and_how_sure_that_is() -> None:
    def says(*found: Pair) -> list[str]:
        means = {"a": 0.010, "b": 0.012, "c": 0.013}
        return in_short([FakeCell(name, {MSE: mean}) for name, mean in means.items()], found)  # type: ignore[misc]

    b_c = pair("b", "c", -0.001, 0.01)
    best = "reconstruction MSE: a is best (10.00 × 10⁻³)"
    sure, unsure = pair("a", "b", -0.002, 0.01), pair("a", "b", -0.002, 0.2)
    assert says(sure, pair("a", "c", -0.003, 0.01), b_c) == [f"{best}, and its lead over every other is significant."]
    assert says(unsure, pair("a", "c", -0.003, 0.01), b_c) == [f"{best}, but its lead over b is not shown."]
    assert says(unsure, pair("a", "c", -0.003, 0.2), b_c) == [f"{best}, but its lead over no other is shown."]


def test_in_short_tells_groups_apart_that_are_not_compared() -> None:
    cells = [FakeCell(name, {PROBE: mean}) for name, mean in (("a", 0.7), ("b", 0.8), ("c", 0.9), ("d", 0.6))]
    found = [pair("a", "b", -0.1, 0.01, PROBE), pair("c", "d", 0.3, 0.01, PROBE)]
    assert in_short(cells, found) == [  # type: ignore[arg-type]
        "logistic probe: b is best of a, b (80.0 %), and its lead over every other is significant.",
        "logistic probe: c is best of c, d (90.0 %), and its lead over every other is significant.",
    ]


def test_what_is_said_of_the_bounds_gap() -> None:
    """That it is exceeded where it was measured, that nothing is known where not; and nothing of what is no bound."""

    def says(*gaps: float | None, metric: str = "iw_log_likelihood_nats") -> tuple[bool, bool]:
        found = [replace(pair("a", name, 1, 0.01, metric), gap=gap) for name, gap in zip("bc", gaps, strict=False)]
        words = how_compared(found)
        assert words.count("log p̂(x)") == ("must also exceed" in words) + ("was not measured" in words)
        return "In log p̂(x) the difference must also exceed" in words, "looseness was not measured" in words

    assert says(0.1, 0.2) == (True, False)
    assert says(None, None) == (False, True)
    assert says(0.1, None) == (True, True)
    assert says(None, metric=PROBE) == (False, False)


def test_the_seeds_behind_a_comparison_are_those_of_its_pairs() -> None:
    of_three, of_four = replace(pair("a", "b", 1, 0.01, MSE), seeds=3), pair("a", "b", 1, 0.01, PROBE)
    assert "on the same 4 seeds and" in how_compared([of_four])
    assert "on the same 3 or 4 seeds and" in how_compared([of_four, of_three])


def test_one_seed_shows_nothing() -> None:
    (line,) = in_short([FakeCell(name, {MSE: 1.0}, seeds=(0,)) for name in "ab"], [])  # type: ignore[misc]
    assert "not defined" in line


def test_one_variant_is_best_at_nothing() -> None:
    for seeds in ((0,), (0, 1)):
        assert in_short([FakeCell("a", {MSE: 1.0}, seeds=seeds)], []) == []  # type: ignore[list-item]
