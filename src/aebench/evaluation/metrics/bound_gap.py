"""How far log p̂(x) can lie below log p(x)."""

from typing import TYPE_CHECKING

from aebench.evaluation.metrics import Measured, Metric, nothing

if TYPE_CHECKING:
    from aebench.evaluation.context import Context

METRICS = (Metric("bound_gap_nats", "bounds' gap", "nats", "", nothing, average=None, digits=3, main=True, place=35),)


def not_defined(context: "Context") -> dict[str, str]:
    """Without a prior, where it is turned off, and where the proposal cannot score a sample of the posterior."""
    if context.no_prior:
        return {"bound_gap_nats": context.no_prior}
    if context.config.bound_gap_images == 0:
        return {"bound_gap_nats": "is turned off (evaluation.bound_gap_images is 0)"}
    if context.config.proposal == "amortised" and context.no_density:
        return {"bound_gap_nats": context.no_density}
    return {}


def measure(context: "Context") -> Measured:
    """The mean over simulated images of the upper minus the lower bound."""
    from aebench.evaluation.bounds import bound_gaps

    gaps = bound_gaps(context.latent_variable_model, context.config, context.seed)
    return Measured(of_run={"bound_gap_nats": gaps.mean().item()})
