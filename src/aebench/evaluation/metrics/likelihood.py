"""What a model with a prior says of log p(x) and of log p(x|y): bounds, their parts, their health."""

from typing import TYPE_CHECKING

from aebench.evaluation.metrics import Looseness, Measured, Metric, nothing, own_likelihood

if TYPE_CHECKING:
    from aebench.evaluation.context import Context

METRICS = (
    Metric(
        *("iw_log_likelihood_nats", "log p̂(x)", "nats", "↑", own_likelihood),
        main=True,
        place=30,
        looseness=Looseness("bound_gap_nats"),
    ),
    Metric("elbo_nats", "ELBO", "nats", "↑", own_likelihood, main=True, place=40),
    Metric("distortion_nats", "distortion", "nats", "", nothing, place=110),
    Metric("rate_nats", "rate", "nats", "", nothing, place=120),
    Metric("generalisation_gap_nats", "generalisation gap", "nats", "", nothing, average=None, place=130),
    Metric(
        *("effective_sample_size", "effective sample size", "samples", "", nothing),
        average="median",
        digits=1,
        place=140,
    ),
    Metric(
        *("pareto_k_unreliable_share", "images with unreliable k̂", "%", "", nothing), scale=100, digits=1, place=150
    ),
    Metric("iw_log_likelihood_given_label_nats", "log p̂(x|y)", "nats", "↑", own_likelihood, place=240),
    Metric("elbo_given_label_nats", "ELBO given y", "nats", "↑", own_likelihood, place=250),
)


def not_defined(context: "Context") -> dict[str, str]:
    """All of them without a prior, those given y without a label, and k̂ from too few samples."""
    if context.no_prior:
        return dict.fromkeys((metric.name for metric in METRICS), context.no_prior)
    reasons: dict[str, str] = {}
    if not context.model.conditional_parts:
        given_label = ("iw_log_likelihood_given_label_nats", "elbo_given_label_nats")
        reasons |= dict.fromkeys(given_label, "does not condition on the label")
    if reason := context.too_few_samples(context.config.proposal, context.config.importance_samples):
        reasons["pareto_k_unreliable_share"] = reason
    return reasons


def measure(context: "Context") -> Measured:
    """Figures in nats, those of health, and the K-curve."""
    from aebench.evaluation.likelihoods import elbo_on_training_images

    model, per_image = context.latent_variable_model, dict(context.bounds[0])
    behind = {name: per_image.pop(name) for name in ("pareto_k",) if name in per_image}
    on_training_images = elbo_on_training_images(model, context.splits, context.config, context.seed)
    gap = on_training_images - per_image["elbo_nats"].mean()
    return Measured(per_image, {"generalisation_gap_nats": gap}, dict(context.bounds[1]), behind=behind)
