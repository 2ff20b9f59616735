"""How much of its image a latent tells, and how far all latents together lie from the prior."""

from typing import TYPE_CHECKING

from aebench.evaluation.metrics import Measured, Metric, nothing

if TYPE_CHECKING:
    from aebench.evaluation.context import Context

OPTIONAL = True
METRICS = (
    Metric("mutual_information_nats", "mutual information I(x; z)", "nats", "", nothing, place=280),
    Metric("aggregated_posterior_kl_nats", "KL(q(z) ‖ p(z))", "nats", "", nothing, place=290),
)


def not_defined(context: "Context") -> dict[str, str]:
    """Both without a prior, and where q(z|x) cannot score the latent of another image."""
    reason = context.no_prior or context.no_density
    return dict.fromkeys((metric.name for metric in METRICS), reason) if reason else {}


def measure(context: "Context") -> Measured:
    """Each image's share in both, the second what the first leaves of its rate (Hoffman & Johnson 2016)."""
    from aebench.evaluation.aggregated import information
    from aebench.evaluation.context import batches
    from aebench.evaluation.likelihoods import pilot_of_elbo
    from aebench.models.labels import sampled_classes
    from aebench.randomness import generator

    model, images = context.latent_variable_model, (x for _, x in batches(context.splits.test))
    noise, pilot = (
        generator(context.seed, "aggregated posterior"),
        pilot_of_elbo(context.config, sampled_classes(model)),
    )
    mutual_information = information(model, images, noise, pilot).numpy()
    rate = context.bounds[0]["rate_nats"]
    return Measured(
        {"mutual_information_nats": mutual_information, "aggregated_posterior_kl_nats": rate - mutual_information}
    )
