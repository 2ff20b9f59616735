import numpy as np
import pytest
from scipy import stats

from aebench.evaluation.statistics import interval, summary


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
