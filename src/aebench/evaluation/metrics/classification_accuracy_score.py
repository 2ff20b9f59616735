"""What a classifier that has seen the model's images alone reads in real ones (Ravuri & Vinyals 2019)."""

from typing import TYPE_CHECKING

import numpy as np

from aebench.evaluation.metrics import Measured, Metric, everything

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from aebench.evaluation.context import Context

OPTIONAL = True
METRICS = (Metric("classification_accuracy_score", "CAS", "%", "↑", everything, scale=100, digits=1, place=320),)
# Images that the model makes, or as many as there are training images.
SAMPLES = 10_000


def not_defined(context: "Context") -> dict[str, str]:
    """Where no class can be asked for."""
    reason = context.no_prior
    if not reason and not context.model.conditional_parts & {"prior", "likelihood"}:
        reason = "makes no images of a given class"
    return {"classification_accuracy_score": reason} if reason else {}


def measure(context: "Context") -> Measured:
    """1 for each test image whose class a logistic regression reads that was fitted to the model's images, else 0.

    It is fitted to pixels as they are: many that vary in real images hardly do in the model's, and would be blown up if
    they were standardised. C is 1, since choosing it would take real images.
    """
    from sklearn.linear_model import LogisticRegression

    from aebench.evaluation.context import batches

    images, labels = _samples(context)
    classifier = LogisticRegression(max_iter=500, tol=1e-3).fit(images, labels)
    test = context.splits.test
    predicted = np.concatenate([classifier.predict(x.cpu().numpy()) for _, x in batches(test)])
    return Measured({"classification_accuracy_score": (predicted == test.labels.cpu().numpy()).astype(np.float64)})


def _samples(context: "Context") -> "tuple[NDArray[np.float32], NDArray[np.int64]]":
    """x ~ p(x|z, y), z ~ p(z|y), `[M, D]`, and y `[M]`, each class with its share of the training images."""
    import torch

    from aebench.evaluation.context import BATCH
    from aebench.models.labels import sample_prior
    from aebench.randomness import drawing_from, generator

    model, splits = context.latent_variable_model, context.splits
    counts = [max(1, round(share * min(SAMPLES, len(splits.train)))) for share in splits.class_shares]
    y = torch.arange(splits.classes).repeat_interleave(torch.tensor(counts))
    images = []
    with torch.no_grad(), drawing_from(generator(context.seed, "classification accuracy score")):
        for part in y.to(splits.test.labels.device).split(BATCH):
            images.append(model.likelihood(sample_prior(model, 1, part)[0], part).sample().cpu())
    return torch.cat(images).numpy(), y.numpy()
