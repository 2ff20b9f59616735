import warnings

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from aebench.evaluation.probes import (
    DRAWS,
    Labelled,
    few_label_probes,
    few_labels,
    logistic,
    nearest_neighbours,
    probes,
    right,
    too_few,
)


def clouds(seed: int, size: int, spread: float = 0.5) -> Labelled:
    """Three classes around the corners of a triangle, the second axis a thousand times as wide."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, size)
    corners = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
    codes = (corners[labels] + spread * random.normal(size=(size, 2))) * [1, 1000]
    return Labelled(codes.astype(np.float32), labels.astype(np.int64))


def read(train: Labelled, validation: Labelled, test: Labelled) -> NDArray[np.float64]:
    """The logistic probe's accuracy for each image."""
    return right(logistic(train, validation, test), test)


def test_both_probes_tell_separate_clouds_apart() -> None:
    train, validation, test = clouds(0, 500), clouds(1, 200), clouds(2, 300)
    assert read(train, validation, test).mean() > 0.98
    assert nearest_neighbours(train, clouds(2, 300)).mean() > 0.6  # not standardised: the wide axis rules


def test_the_result_is_one_flag_an_image() -> None:
    train, test = clouds(0, 500), clouds(2, 300)
    wrong = Labelled(test.codes, (test.labels + 1) % 3)
    for flags, flipped in (
        (read(train, train, test), read(train, train, wrong)),
        (nearest_neighbours(train, test), nearest_neighbours(train, wrong)),
    ):
        assert flags.shape == (300,)
        assert set(flags) <= {0.0, 1.0}
        assert not (flags * flipped).any()


def test_test_codes_do_not_touch_the_fit() -> None:
    train, validation, test = clouds(0, 500, 2.0), clouds(1, 200, 2.0), clouds(2, 300, 2.0)
    shifted = Labelled(np.concatenate([test.codes[:10], 1e6 + test.codes[10:]]), test.labels)
    assert np.array_equal(read(train, validation, test)[:10], read(train, validation, shifted)[:10])


def test_without_a_validation_split_the_probe_still_fits() -> None:
    empty = Labelled(np.empty((0, 2), np.float32), np.empty(0, np.int64))
    assert read(clouds(0, 500), empty, clouds(2, 300)).mean() > 0.98


Fit = tuple[NDArray[np.float64], NDArray[np.int64]]


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[Fit]:
    """What every logistic regression was fitted to."""
    seen: list[Fit] = []
    fit = LogisticRegression.fit

    def spy(self: LogisticRegression, codes: NDArray[np.float64], labels: NDArray[np.int64]) -> LogisticRegression:
        seen.append((codes, labels))
        return fit(self, codes, labels)

    monkeypatch.setattr(LogisticRegression, "fit", spy)
    return seen


def numbered(counts: list[int], scale: float = 1.0) -> Labelled:
    """Images of these many per class, whose one code is their number times `scale`."""
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    return Labelled((scale * np.arange(len(labels))[:, None]).astype(np.float32), labels.astype(np.int64))


def numbers(codes: NDArray[np.float64], images: int) -> list[int]:
    """The numbers again, from codes standardised by the mean and deviation of all of them."""
    found = codes[:, 0] * np.arange(images).std() + np.arange(images).mean()
    assert found == pytest.approx(found.round(), abs=1e-2)
    return [int(number) for number in found.round()]


@pytest.mark.parametrize("labels", [10, 100, 300])
@pytest.mark.parametrize("counts", [[200, 200, 200], [300, 180, 120], [341, 206, 53]])
def test_exactly_so_many_labels_are_used_by_each_classs_share(fits: list[Fit], labels: int, counts: list[int]) -> None:
    train = numbered(counts)
    few_labels(train, clouds(0, 20)._replace(codes=np.zeros((20, 1), np.float32)), labels)
    assert len(fits) == DRAWS
    for codes, drawn in fits:
        chosen = numbers(codes, sum(counts))
        assert len(set(chosen)) == labels
        assert np.array_equal(train.labels[chosen], drawn)
        shares = labels * np.array(counts) / sum(counts)
        assert (abs(np.bincount(drawn, minlength=3) - shares) < 1).all()


def test_the_draws_differ_but_are_the_same_for_all_codes(fits: list[Fit]) -> None:
    test = Labelled(np.zeros((5, 1), np.float32), np.zeros(5, np.int64))
    for scale in (1.0, 300.0):
        few_labels(numbered([50, 60, 70], scale), test, 10)
    drawn = [tuple(sorted(numbers(codes, 180))) for codes, _ in fits]
    assert drawn[:DRAWS] == drawn[DRAWS:]
    assert len(set(drawn)) == DRAWS


def test_the_result_is_the_share_of_draws_that_are_right(fits: list[Fit]) -> None:
    train, test = clouds(0, 500, 2.0), clouds(2, 300, 2.0)
    found = few_labels(train, test, 10)
    assert found.shape == (300,)
    assert 10 * found == pytest.approx((10 * found).round())
    assert 0 <= found.min() < found.max() <= 1
    assert len(np.unique(found)) > 3  # draws differ in what they get right
    scaled = (test.codes - train.codes.mean(axis=0, dtype=np.float64)) / train.codes.std(axis=0, dtype=np.float64)
    right = [LogisticRegression(tol=1e-3).fit(*seen).predict(scaled) == test.labels for seen in tuple(fits)]
    assert found == pytest.approx(np.mean(right, axis=0))


def test_more_labels_help() -> None:
    train, test = clouds(0, 2000, 2.0), clouds(2, 1000, 2.0)
    means = [few_labels(train, test, labels).mean() for labels in (3, 10, 100, 1000)]
    assert means == sorted(means)
    assert means[0] + 0.05 < means[-1]
    assert means[-1] == pytest.approx(read(train, train, test).mean(), abs=0.02)


def test_test_codes_do_not_touch_the_fit_from_few_labels(fits: list[Fit]) -> None:
    train, test = clouds(0, 500, 2.0), clouds(2, 300, 2.0)
    shifted = Labelled(np.concatenate([test.codes[:10], 1e6 + test.codes[10:]]), test.labels)
    assert np.array_equal(few_labels(train, test, 10)[:10], few_labels(train, shifted, 10)[:10])
    assert all(np.array_equal(one[0], other[0]) for one, other in zip(fits[:DRAWS], fits[DRAWS:], strict=True))


def test_too_few_classes_or_images_have_a_reason() -> None:
    assert too_few(10, np.arange(1000) % 10) == ""
    assert "each of the 11 classes" in too_few(10, np.arange(1000) % 11)
    assert too_few(100, np.arange(110) % 10) == ""
    assert "more training images than 109" in too_few(100, np.arange(109) % 10)


@pytest.mark.parametrize("counts", [(20, 380), (20, 190, 190)])
def test_where_a_draw_might_leave_a_class_without_a_label_there_is_none(counts: tuple[int, ...]) -> None:
    """Both classes have a remainder of a half, and of three classes that share ten labels one has too small a one."""
    labels = np.repeat(np.arange(len(counts)), counts)
    assert f"a class too rare for 10 labels: 20 of {sum(counts)} training images" in too_few(10, labels)


@pytest.mark.parametrize("seed", range(40))
def test_where_there_is_no_reason_every_draw_has_every_class(seed: int) -> None:
    from sklearn.model_selection import StratifiedShuffleSplit

    random = np.random.default_rng(seed)
    counts = random.integers(2, 200, size=random.integers(2, 6))
    labels = np.repeat(np.arange(len(counts)), counts)
    if not too_few(10, labels):
        draws = StratifiedShuffleSplit(DRAWS, train_size=10, random_state=0).split(labels, labels)
        assert all(len(np.unique(labels[chosen])) == len(counts) for chosen, _ in draws)


def test_probes_from_few_labels_are_left_out_where_there_are_too_few() -> None:
    test = clouds(2, 50)
    assert set(few_label_probes(clouds(0, 12), test)) == set()
    assert set(few_label_probes(clouds(0, 102), test)) == {"probe_accuracy_10_labels"}
    assert set(few_label_probes(clouds(0, 103), test)) == {"probe_accuracy_10_labels", "probe_accuracy_100_labels"}
    found, predicted = probes(clouds(0, 1003), clouds(1, 100), test)
    assert np.array_equal(found["probe_accuracy"], predicted == test.labels)
    expected = {"probe_accuracy", "knn_accuracy", *(f"probe_accuracy_{n}_labels" for n in (10, 100, 1000))}
    assert set(found) == expected
    assert all(accuracy.shape == (50,) for accuracy in found.values())


@pytest.mark.parametrize("rare", [1, 2])
def test_a_rare_class_does_not_end_the_evaluation(rare: int) -> None:
    train = numbered([200 - rare, rare])
    assert all(accuracy.shape == (200,) for accuracy in few_label_probes(train, train).values())


def test_many_classes_of_few_images_are_no_cause_for_warnings() -> None:
    labels = np.repeat(np.arange(30), 3)
    images = Labelled(np.random.default_rng(0).normal(size=(90, 2)).astype(np.float32), labels)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        few_labels(images, images, 40)
        nearest_neighbours(images, images)
