"""A density fitted after training, the same for every variant, so that all of them stand on one axis."""

from typing import TYPE_CHECKING

from aebench.evaluation.metrics import Measured, Metric, Nats, Protocol, all_images, nothing

if TYPE_CHECKING:
    from aebench.evaluation.context import Context


def fitted_density(protocol: Protocol) -> Nats:
    """Comparability of the estimate, whose p(x|z) does not depend on the variant's own."""
    samples = protocol["evaluation"]["expost"]["importance_samples"]
    return Nats("gaussian around the decoder's mean", protocol["binarization"], "ex-post", samples)


def chosen_images(protocol: Protocol) -> int:
    """`expost.images`, or all where there are fewer."""
    return min(all_images(protocol), int(protocol["evaluation"]["expost"]["images"]))


METRICS = (
    Metric(
        *("expost_log_likelihood_nats", "ex-post log p̂(x)", "nats", "↑", fitted_density),
        digits=1,
        main=True,
        place=50,
        images=chosen_images,
    ),
    Metric(
        *("expost_effective_sample_size", "ex-post effective sample size", "samples", "", nothing),
        average="median",
        digits=1,
        place=160,
        images=chosen_images,
    ),
    Metric(
        *("expost_pareto_k_unreliable_share", "ex-post images with unreliable k̂", "%", "", nothing),
        scale=100,
        digits=1,
        place=170,
        images=chosen_images,
    ),
    Metric("expost_sigma", "ex-post σ", "10⁻³", "", nothing, average=None, scale=1e3, digits=1, place=180),
)


def not_defined(context: "Context") -> dict[str, str]:
    """All of them where pixels are binarised or it is turned off, and k̂ from too few samples."""
    expost, names = context.config.expost, [metric.name for metric in METRICS]
    if context.splits.binarization != "none":
        return dict.fromkeys(names, "is a density, and the pixels are binarised")
    if expost.images == 0:
        return dict.fromkeys(names, "is turned off (evaluation.expost.images is 0)")
    reason = context.too_few_samples("laplace", expost.importance_samples)
    return {"expost_pareto_k_unreliable_share": reason} if reason else {}


def measure(context: "Context") -> Measured:
    """Figures in nats, those of health, and σ.

    Raises:
        Diverged: the decoder's derivative is not finite.
    """
    from aebench.evaluation.likelihoods import expost_likelihoods

    per_image, sigma = expost_likelihoods(context.model, context.splits, context.config, context.seed, context.report)
    behind = {name: per_image.pop(name) for name in ("expost_pareto_k",) if name in per_image}
    return Measured(per_image, {"expost_sigma": sigma}, behind=behind)
