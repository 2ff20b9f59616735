"""Why the ELBO lies below log p(x): for the family of q(z|x), and for one encoder that serves all images."""

from typing import TYPE_CHECKING

from aebench.evaluation.metrics import Looseness, Measured, Metric, Nats, Protocol, all_images

if TYPE_CHECKING:
    from aebench.evaluation.context import Context

OPTIONAL = True
# Test images, drawn once, the same for all variants; and how many are taken together.
IMAGES, GROUP = 200, 20


def of_likelihood(protocol: Protocol) -> Nats:
    """Comparability: the variant's own p(x|z); how the gaps are found is the same for all."""
    return Nats(protocol["likelihood"], protocol["binarization"], "gaps", None)


def chosen_images(protocol: Protocol) -> int:
    """`IMAGES`, or all where there are fewer."""
    return min(all_images(protocol), IMAGES)


METRICS = (
    Metric(
        *("approximation_gap_nats", "approximation gap", "nats", "↓", of_likelihood),
        place=300,
        images=chosen_images,
        looseness=Looseness("bound_gap_nats"),
    ),
    Metric(*("amortisation_gap_nats", "amortisation gap", "nats", "↓", of_likelihood), place=310, images=chosen_images),
)


def not_defined(context: "Context") -> dict[str, str]:
    """Both without a prior, and where q(z|x) is of a family that is not fitted here."""
    from aebench.evaluation.proposals.refined import is_diagonal_gaussian

    reason = context.no_prior
    if not reason:
        image, label = context.splits.test.pixels(slice(1)), context.splits.test.labels[:1]
        if not is_diagonal_gaussian(context.latent_variable_model.posterior(image, label)):
            reason = "its q(z|x) is no Gaussian with a diagonal covariance, which could be fitted to each image"
    return dict.fromkeys((metric.name for metric in METRICS), reason) if reason else {}


def measure(context: "Context") -> Measured:
    """The gaps of each of the images (Cremer et al. 2018, Table 1).

    Raises:
        Diverged: the decoder's derivative is not finite.
    """
    import torch

    from aebench.evaluation.gaps import gaps
    from aebench.randomness import generator

    test, of_groups = context.splits.test, []
    chosen = torch.randperm(len(test), generator=generator("gaps: images"))[:IMAGES].sort().values
    for group in chosen.split(GROUP):
        x = test.pixels(group.to(test.labels.device))
        of_groups.append(gaps(context.latent_variable_model, x, context.seed, int(group[0])))
        done = GROUP * (len(of_groups) - 1) + len(group)
        context.report(done, len(chosen), "approximation and amortisation gaps")
    approximation, amortisation = (torch.cat(each).numpy() for each in zip(*of_groups, strict=True))
    return Measured({"approximation_gap_nats": approximation, "amortisation_gap_nats": amortisation})
