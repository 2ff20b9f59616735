from itertools import combinations, pairwise

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad

from aebench.evaluation.statistics import (
    RESAMPLES,
    Values,
    behrens_fisher,
    crossed_bootstrap,
    holm,
    interval,
    paired_difference,
    summary,
)


def test_the_interval_is_that_of_students_t_test() -> None:
    values = np.array([1.0, 2.5, 2.0, 4.0])
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert interval(values) == pytest.approx([expected.low, expected.high])


def test_the_interval_covers_the_mean_in_95_percent_of_the_cases() -> None:
    draws = np.random.default_rng(0).normal(3, 2, size=(4000, 4))
    covered = np.mean([low <= 3 <= high for low, high in map(interval, draws)])
    assert covered == pytest.approx(0.95, abs=4 * np.sqrt(0.05 * 0.95 / 4000))


def test_seeds_and_images_stand_apart() -> None:
    images = [np.array([1.0, 2.0, 6.0]), np.array([3.0, 2.0, 4.0])]
    found = summary([3.0, 3.0], images)
    assert found["mean"] == 3
    assert found["sd"] == 0
    assert found["ci95"] == [3, 3]
    assert found["ci95_images"] == pytest.approx(interval(np.array([2.0, 2.0, 5.0])))


def test_one_seed_has_no_spread() -> None:
    assert set(summary([3.0], [np.array([1.0, 5.0])])) == {"mean", "ci95_images"}
    assert set(summary([3.0], None)) == {"mean"}


def crossed(
    random: np.random.Generator, seeds: int, images: int, *, seed: float = 0, image: float = 0, both: float = 0
) -> Values:
    """Effects of seeds, of images and of each pair of them, with these standard deviations."""
    return (
        seed * random.normal(size=(seeds, 1))
        + image * random.normal(size=(1, images))
        + both * random.normal(size=(seeds, images))
    )


def test_a_paired_difference_by_hand() -> None:
    b = np.array([[10.0, 20.0, 30.0], [-1.0, 0.0, 5.0]])
    a = b + np.array([[1, 3, 8], [3, 1, 2]])
    # Means of the seeds 4 and 2, of the images 2, 2 and 5: s² is 2 and 3, s²/n is 1 and 1.
    found = paired_difference(a, b)
    assert found.mean == 3
    assert found.p == pytest.approx(sum_beyond(3, (1, 1), (2, 1)), rel=1e-4)
    assert found.high - found.mean == pytest.approx(found.mean - found.low)
    assert sum_beyond(found.high - found.mean, (1, 1), (2, 1)) == pytest.approx(0.05, rel=1e-4)
    swapped = paired_difference(b, a)
    assert (swapped.mean, swapped.low, swapped.high, swapped.p) == (-found.mean, -found.high, -found.low, found.p)


def sum_beyond(distance: float, *parts: tuple[int, float]) -> float:
    """P(|X + Y| > distance), by adaptive integration over X; X and Y are Student's t with these freedoms and scales."""
    (freedom, scale), (other_freedom, other_scale) = parts

    def integrand(x: float) -> float:
        beyond = stats.t.sf((distance - scale * x) / other_scale, other_freedom)
        return float(stats.t.pdf(x, freedom) * beyond)

    places = np.array([-1e12, -1e8, -1e5, -1e3, -30, -3, 0, 3, 30, 1e3, 1e5, 1e8, 1e12])
    places = np.sort(np.concatenate([places, distance / scale + other_scale / scale * places]))
    found = (quad(integrand, low, high, limit=200, epsabs=1e-12)[0] for low, high in pairwise(places))
    return 2 * sum(found)


@pytest.mark.parametrize(
    ("parts", "distance"),
    [
        (((1, 0.5), (199, 1.0)), 30.0),
        (((1, 0.05), (9999, 1.0)), 2.5),
        (((3, 1.0), (199, 0.3)), 4.0),
        (((3, 0.2), (9999, 1.0)), 0.7),
        (((7, 1.0), (49, 1.0)), 9.0),
    ],
)
def test_the_p_value_is_that_of_a_sum_of_two_students_t(parts: tuple[tuple[int, float], ...], distance: float) -> None:
    expected = sum_beyond(distance, *parts)
    assert behrens_fisher(distance, *parts) == pytest.approx(expected, rel=1e-5)
    assert behrens_fisher(distance, *reversed(parts)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("seeds", [2, 4])
@pytest.mark.parametrize("share_of_images", [0.03, 0.3])
def test_among_many_pairs_a_false_verdict_is_as_rare_as_holm_promises(seeds: int, share_of_images: float) -> None:
    """Six equal variants: in at most 5 % of the benchmarks is one of their 15 pairs called different.

    The p-values that decide are those about 0.05/15. With Satterthwaite's degrees of freedom it is up to 60 %.
    """
    random, times, images = np.random.default_rng(0), 300, 60
    image = (share_of_images * images / seeds) ** 0.5
    called = 0
    for _ in range(times):
        variants = [crossed(random, seeds, images, seed=1, image=image) for _ in range(6)]
        called += min(holm([paired_difference(a, b).p for a, b in combinations(variants, 2)])) < 0.05
    assert called / times <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / times)


@pytest.mark.parametrize("of_seeds", [True, False])
def test_with_one_source_of_variance_it_is_students_paired_t_test(of_seeds: bool) -> None:
    random = np.random.default_rng(0)
    shared = crossed(random, 5, 3000, seed=2, image=2, both=2)  # cancels
    axis = 1 if of_seeds else 0
    a, b = (shared + crossed(random, 5, 3000, **{"seed" if of_seeds else "image": 0.5}) for _ in "ab")
    found = paired_difference(a, b)
    expected = stats.ttest_rel(a.mean(axis=axis), b.mean(axis=axis))
    interval_of = expected.confidence_interval(0.95)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-6)
    assert (found.low, found.high) == pytest.approx((interval_of.low, interval_of.high), rel=1e-6)


def test_with_very_many_images_only_the_seeds_count() -> None:
    random = np.random.default_rng(1)
    a, b = (crossed(random, 4, 100_000, seed=0.2, image=0.5, both=0.5) for _ in "ab")
    expected = stats.ttest_rel(a.mean(axis=1), b.mean(axis=1)).pvalue
    assert paired_difference(a, b).p == pytest.approx(expected, rel=0.01)


def test_no_difference_at_all_and_one_without_any_variance() -> None:
    a = np.random.default_rng(0).normal(size=(4, 50))
    assert paired_difference(a, a).p == 1
    ones = np.ones((4, 50))
    found = paired_difference(1.5 * ones, ones)
    assert (found.mean, found.low, found.high, found.p) == (0.5, 0.5, 0.5, 0)
    assert paired_difference(a + 0.1, a).p < 1e-9  # but for rounding


@pytest.mark.parametrize(
    ("seed", "image", "both", "fewest"),
    [
        pytest.param(1.0, 1.0, 1.0, 0.02, id="seeds dominate"),
        pytest.param(0.0, 1.0, 0.3, 0.02, id="images dominate"),
        pytest.param(0.1, 1.0, 1.0, 0.02, id="mixed"),
        pytest.param(0.0, 0.0, 1.0, 0.0, id="both together dominate"),
    ],
)
def test_a_true_null_is_rejected_in_no_more_than_5_percent(
    seed: float, image: float, both: float, fewest: float
) -> None:
    """And not in much less, though the test may be cautious: it counts what seed and image do together twice.

    Where there is nothing else, its variance is twice the true one.
    """
    random, times = np.random.default_rng(0), 1500
    nothing = np.zeros((4, 200))
    drawn = (crossed(random, 4, 200, seed=seed, image=image, both=both) for _ in range(times))
    rejected = np.mean([paired_difference(values, nothing).p < 0.05 for values in drawn])
    assert fewest <= rejected <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / times)


def test_the_interval_of_a_difference_covers_it_and_a_real_one_is_found() -> None:
    random = np.random.default_rng(0)
    found = [
        paired_difference(0.5 + crossed(random, 4, 200, seed=0.1, image=1, both=0.5), np.zeros((4, 200)))
        for _ in range(1000)
    ]
    assert np.mean([each.p < 0.05 for each in found]) > 0.95
    assert np.mean([each.low <= 0.5 <= each.high for each in found]) == pytest.approx(0.95, abs=0.03)
    assert all((each.p < 0.05) == (each.low > 0 or each.high < 0) for each in found)


def test_the_bootstrap_resamples_alike_for_all_names_and_every_time() -> None:
    a = crossed(np.random.default_rng(0), 3, 40, seed=1, image=1, both=1)
    found = crossed_bootstrap({"a": a, "b": a + 2, "c": -a})
    assert {name: means.shape for name, means in found.items()} == dict.fromkeys("abc", (RESAMPLES,))
    assert found["b"] - found["a"] == pytest.approx(np.full(RESAMPLES, 2.0))
    assert found["c"] == pytest.approx(-found["a"])
    assert len(np.unique(found["a"])) > 0.9 * RESAMPLES
    again = crossed_bootstrap({"a": a, "b": a + 2, "c": -a})
    assert all(np.array_equal(again[name], found[name]) for name in "abc")
    assert crossed_bootstrap({"a": a})["a"] == pytest.approx(found["a"])
    assert crossed_bootstrap({"a": a}, 7)["a"].shape == (7,)


@pytest.mark.parametrize(("seed", "image"), [(1.0, 0.0), (0.0, 4.0), (1.0, 4.0)])
def test_the_bootstrap_varies_as_the_mean_of_crossed_factors(seed: float, image: float) -> None:
    values = 7 + crossed(np.random.default_rng(0), 4, 30, seed=seed, image=image)
    found = crossed_bootstrap({"values": values}, 5000)["values"]
    of_seeds, of_images = values.mean(axis=1).var(ddof=1), values.mean(axis=0).var(ddof=1)
    sd = np.sqrt(of_seeds / 4 * 3 / 4 + of_images / 30 * 29 / 30)
    assert found.std() == pytest.approx(sd, rel=0.05)
    assert found.mean() == pytest.approx(values.mean(), abs=5 * sd / np.sqrt(5000))


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.2, 0.9]) == pytest.approx([1, 0.6, 1])
    assert holm([0.03]) == [0.03]
    assert holm([]) == []


def test_holm_keeps_the_order_and_lies_between_no_correction_and_bonferronis() -> None:
    p = np.random.default_rng(0).uniform(size=12) ** 3
    adjusted = np.array(holm(list(p)))
    assert (np.diff(adjusted[np.argsort(p)]) >= 0).all()
    assert (adjusted >= p).all()
    assert (adjusted <= np.minimum(1, 12 * p)).all()
    assert adjusted.min() == pytest.approx(12 * p.min())
    order = np.random.default_rng(1).permutation(12)
    assert holm(list(p[order])) == list(adjusted[order])
