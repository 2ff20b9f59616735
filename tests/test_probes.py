import numpy as np

from aebench.evaluation.probes import Labelled, logistic, nearest_neighbours


def clouds(seed: int, size: int, spread: float = 0.5) -> Labelled:
    """Three classes around the corners of a triangle, the second axis a thousand times as wide."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, size)
    corners = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
    codes = (corners[labels] + spread * random.normal(size=(size, 2))) * [1, 1000]
    return Labelled(codes.astype(np.float32), labels.astype(np.int64))


def test_both_probes_tell_separate_clouds_apart() -> None:
    train, validation, test = clouds(0, 500), clouds(1, 200), clouds(2, 300)
    assert logistic(train, validation, test).mean() > 0.98
    assert nearest_neighbours(train, clouds(2, 300)).mean() > 0.6  # not standardised: the wide axis rules


def test_the_result_is_one_flag_an_image() -> None:
    train, test = clouds(0, 500), clouds(2, 300)
    wrong = Labelled(test.codes, (test.labels + 1) % 3)
    for flags, flipped in (
        (logistic(train, train, test), logistic(train, train, wrong)),
        (nearest_neighbours(train, test), nearest_neighbours(train, wrong)),
    ):
        assert flags.shape == (300,)
        assert set(flags) <= {0.0, 1.0}
        assert not (flags * flipped).any()


def test_test_codes_do_not_touch_the_fit() -> None:
    train, validation, test = clouds(0, 500, 2.0), clouds(1, 200, 2.0), clouds(2, 300, 2.0)
    shifted = Labelled(np.concatenate([test.codes[:10], 1e6 + test.codes[10:]]), test.labels)
    assert np.array_equal(logistic(train, validation, test)[:10], logistic(train, validation, shifted)[:10])


def test_without_a_validation_split_the_probe_still_fits() -> None:
    empty = Labelled(np.empty((0, 2), np.float32), np.empty(0, np.int64))
    assert logistic(clouds(0, 500), empty, clouds(2, 300)).mean() > 0.98
