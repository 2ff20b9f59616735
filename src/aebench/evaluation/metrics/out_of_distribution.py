"""How well test images are told from those of another data set (Hendrycks & Gimpel 2017; Nalisnick et al. 2019)."""

from typing import TYPE_CHECKING

import numpy as np

from aebench.errors import Diverged
from aebench.evaluation.metrics import Measured, Metric, everything, own_likelihood

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from aebench.evaluation.context import Context

OPTIONAL = True
# Figures of a run, and not means over images, though each is one of the test images' shares: its error comes from the
# outside images as well, so neither an interval over test images nor a verdict from them would hold.
METRICS = (
    Metric("ood_auroc_likelihood", "OOD AUROC, log p̂(x)", "", "↑", own_likelihood, average=None, digits=3, place=360),
    Metric(
        *("ood_auroc_reconstruction", "OOD AUROC, reconstruction", "", "↑", everything),
        average=None,
        digits=3,
        place=370,
    ),
)


def not_defined(context: "Context") -> dict[str, str]:
    """Both without outside images, and that of the likelihood without a prior."""
    if context.splits.outside is None:
        reason = "the data set has no outside images: name it NAME_vs_OTHER"
        return dict.fromkeys((metric.name for metric in METRICS), reason)
    return {"ood_auroc_likelihood": context.no_prior} if context.no_prior else {}


def measure(context: "Context") -> Measured:
    """How probably a test image scores higher than an outside image, by log p̂(x) and by minus the squared error.

    There are as many outside images as test images, or all where there are fewer; they are drawn once, the same for all
    variants.

    Raises:
        Diverged: the score of an image is not a number.
    """
    from dataclasses import replace

    import torch

    from aebench.evaluation.context import batches
    from aebench.evaluation.likelihoods import outside_log_likelihood
    from aebench.models.objectives import squared_error
    from aebench.randomness import generator

    model, test, every = context.model, context.splits.test, context.splits.outside
    assert every is not None
    chosen = torch.randperm(len(every), generator=generator("outside images"))[: len(test)].sort().values
    chosen = chosen.to(every.labels.device)
    outside = replace(every, images=every.images[chosen], labels=every.labels[chosen])
    with torch.no_grad():
        mse_inside, mse_outside = (
            torch.cat([squared_error(x, model.reconstruct(x)) for _, x in batches(split)]).double().cpu().numpy()
            / split.images.shape[1]
            for split in (test, outside)
        )
    measured = Measured(of_run={"ood_auroc_reconstruction": auroc(-mse_inside, -mse_outside)})
    measured.behind["outside_reconstruction_mse"] = mse_outside
    if not context.no_prior:
        inside = context.bounds[0]["iw_log_likelihood_nats"]
        how = (context.config, context.seed, context.report)
        log_px = outside_log_likelihood(context.latent_variable_model, outside, *how).numpy()
        measured.of_run["ood_auroc_likelihood"] = auroc(inside, log_px)
        measured.behind["outside_iw_log_likelihood_nats"] = log_px
    return measured


def auroc(inside: "NDArray[np.float64]", outside: "NDArray[np.float64]") -> float:
    """The area under the ROC curve of scores `[N]` inside and `[M]` outside.

    It is the share of pairs of both in which the first is higher, a tie counting half (Hanley & McNeil 1982, eq. 1).

    Raises:
        Diverged: a score is not a number.
    """
    if np.isnan(inside).any() or np.isnan(outside).any():
        raise Diverged("a score of an image is not a number")
    ordered = np.sort(outside)
    below = np.searchsorted(ordered, inside, "left") + np.searchsorted(ordered, inside, "right")
    return float(np.mean(below / (2 * len(outside))))
