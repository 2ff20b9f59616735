"""How well a simple classifier reads the class from codes."""

import warnings
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

REGULARISATION = (0.01, 0.1, 1.0, 10.0)
NEIGHBOURS = 5
# Labelled training images in all, and how many draws of them are averaged.
FEW_LABELS = (10, 100, 1000)
DRAWS = 10


class Labelled(NamedTuple):
    """Codes `[N, L]` with labels `[N]`."""

    codes: NDArray[np.float32]
    labels: NDArray[np.int64]


def probes(
    train: Labelled, validation: Labelled, test: Labelled
) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.int64]]:
    """Every probe's accuracy for each test image, and the classes that the logistic one reads: `[N]` each."""
    predicted = logistic(train, validation, test)
    accuracies = {
        "probe_accuracy": right(predicted, test),
        "knn_accuracy": nearest_neighbours(train, test),
        **few_label_probes(train, test),
    }
    return accuracies, predicted


def right(predicted: NDArray[np.int64], test: Labelled) -> NDArray[np.float64]:
    """1 for each test image whose class was read, else 0: `[N]`."""
    return np.asarray(predicted == test.labels, dtype=np.float64)


def few_label_probes(train: Labelled, test: Labelled) -> dict[str, NDArray[np.float64]]:
    """The accuracies `[N]` from each of `FEW_LABELS` for which there are images enough of every class."""
    return {
        f"probe_accuracy_{labels}_labels": few_labels(train, test, labels)
        for labels in FEW_LABELS
        if not too_few(labels, train.labels)
    }


def too_few(labels: int, train_labels: NDArray[np.int64]) -> str:
    """Why so many labelled images cannot be drawn by class; empty where they can."""
    counts = np.unique(train_labels, return_counts=True)[1]
    if labels < len(counts):
        return f"needs a label for each of the {len(counts)} classes"
    if len(train_labels) < labels + len(counts):
        return f"needs more training images than {len(train_labels)}"
    # A stratified draw gives each class the whole part of its share, and what is left over to the largest remainders;
    # among equal ones it draws, and may leave a class without a label.
    shares = labels * counts / len(train_labels)
    left_over, remainders = labels - np.floor(shares).sum(), shares % 1
    may_get_none = (shares < 1) & ((remainders >= remainders[:, None]).sum(1) > left_over)
    if counts.min() < 2 or may_get_none.any():
        return f"has a class too rare for {labels} labels: {counts.min()} of {len(train_labels)} training images"
    return ""


def logistic(train: Labelled, validation: Labelled, test: Labelled) -> NDArray[np.int64]:
    """Multinomial logistic regression on standardised codes: the class that it reads for each test image, `[N]`.

    Scaler and classifier are fitted on the training codes alone. The inverse strength C of its L2 penalty is the best
    of `REGULARISATION` on validation, the smallest among equals; 1 where there is no validation split.
    """
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(train.codes)
    codes = scaler.transform(train.codes)

    def fitted(strength: float) -> "LogisticRegression":
        return _regression(codes, train.labels, strength)

    if len(validation.labels) == 0:
        best = fitted(1.0)
    else:
        held_out = scaler.transform(validation.codes), validation.labels
        best = max(map(fitted, REGULARISATION), key=lambda classifier: classifier.score(*held_out))
    predicted: NDArray[np.int64] = best.predict(scaler.transform(test.codes))
    return predicted


def few_labels(train: Labelled, test: Labelled, labels: int) -> NDArray[np.float64]:
    """The logistic probe from `labels` labelled training images: the share of draws in which it is right, `[N]`.

    The images are drawn `DRAWS` times, stratified by class, the same for all codes. The scaler is fitted on all
    training codes, which takes no label; C is 1, since choosing it would take more labels.
    """
    from sklearn.model_selection import StratifiedShuffleSplit
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(train.codes)
    codes, test_codes = scaler.transform(train.codes), scaler.transform(test.codes)
    successes = np.zeros(len(test.labels))
    draws = StratifiedShuffleSplit(DRAWS, train_size=labels, random_state=0)
    for chosen, _ in draws.split(train.labels, train.labels):
        classifier = _regression(codes[chosen], train.labels[chosen])
        successes += right(classifier.predict(test_codes), test)
    return successes / DRAWS


def _regression(codes: NDArray[np.float32], labels: NDArray[np.int64], strength: float = 1.0) -> "LogisticRegression":
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():  # of many classes with few images each scikit-learn asks whether they are numbers
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
        return LogisticRegression(C=strength, max_iter=500, tol=1e-3).fit(codes, labels)


def nearest_neighbours(train: Labelled, test: Labelled) -> NDArray[np.float64]:
    """The vote of the `NEIGHBOURS` nearest training codes by Euclidean distance: 1 where it is right, else 0, `[N]`."""
    from sklearn.neighbors import KNeighborsClassifier

    classifier = KNeighborsClassifier(NEIGHBOURS, algorithm="brute").fit(train.codes, train.labels)
    return right(classifier.predict(test.codes), test)
