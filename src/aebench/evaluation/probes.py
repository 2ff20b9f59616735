"""How well a simple classifier reads the class from codes."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

REGULARISATION = (0.01, 0.1, 1.0, 10.0)
NEIGHBOURS = 5


class Labelled(NamedTuple):
    """Codes `[N, L]` with labels `[N]`."""

    codes: NDArray[np.float32]
    labels: NDArray[np.int64]


def logistic(train: Labelled, validation: Labelled, test: Labelled) -> NDArray[np.float64]:
    """Multinomial logistic regression on standardised codes: 1 for each test image that it gets right, else 0.

    Scaler and classifier are fitted on the training codes alone. The inverse strength C of its L2 penalty is the best
    of `REGULARISATION` on validation, the smallest among equals; 1 where there is no validation split.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(train.codes)
    codes = scaler.transform(train.codes)

    def fitted(strength: float) -> LogisticRegression:
        return LogisticRegression(C=strength, max_iter=500, tol=1e-3).fit(codes, train.labels)

    if len(validation.labels) == 0:
        best = fitted(1.0)
    else:
        held_out = scaler.transform(validation.codes), validation.labels
        best = max(map(fitted, REGULARISATION), key=lambda classifier: classifier.score(*held_out))
    return np.asarray(best.predict(scaler.transform(test.codes)) == test.labels, dtype=np.float64)


def nearest_neighbours(train: Labelled, test: Labelled) -> NDArray[np.float64]:
    """The vote of the 5 nearest training codes by Euclidean distance: 1 for each test image it gets right, else 0."""
    from sklearn.neighbors import KNeighborsClassifier

    classifier = KNeighborsClassifier(NEIGHBOURS, algorithm="brute").fit(train.codes, train.labels)
    return np.asarray(classifier.predict(test.codes) == test.labels, dtype=np.float64)
