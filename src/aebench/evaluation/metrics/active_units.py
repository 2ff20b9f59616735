"""Which latent dimensions a model uses."""

from typing import TYPE_CHECKING

import numpy as np

from aebench.evaluation.metrics import Measured, Metric, nothing

if TYPE_CHECKING:
    from aebench.evaluation.context import Context

METRICS = (Metric("active_units", "active units", "", "", nothing, average=None, digits=1, main=True, place=90),)


def not_defined(context: "Context") -> dict[str, str]:
    """Without a prior, or without a posterior that could become the prior."""
    if not context.no_prior:
        return {}
    without_prior = context.model.lacks == "p(z)"
    collapse = (
        "prior to which a latent dimension could collapse" if without_prior else "q(z|x) that could collapse to p(z)"
    )
    return {"active_units": f"has no {collapse}"}


def measure(context: "Context") -> Measured:
    """How many dimensions are active, the spread of each, and its rate in nats where the rate has such parts."""
    from aebench.evaluation.context import batches
    from aebench.evaluation.diagnostics import ACTIVE, mean_beyond_prior, rate_per_dimension

    model, images = context.latent_variable_model, [x for _, x in batches(context.splits.test)]
    means = [mean_beyond_prior(model, x) for x in images]
    beyond = [mean.cpu().numpy() for mean in means if mean is not None]
    spread = (np.concatenate(beyond) if beyond else context.test.codes).var(axis=0, dtype=np.float64)
    vectors = {"posterior_mean_variance": spread.tolist()}
    rates = [rate_per_dimension(model, x) for x in images]
    parts = [rate.cpu().numpy() for rate in rates if rate is not None]
    if len(parts) == len(rates):
        vectors["rate_per_dimension_nats"] = np.concatenate(parts).mean(axis=0, dtype=np.float64).tolist()
    return Measured(of_run={"active_units": float((spread > ACTIVE).sum())}, vectors=vectors)
