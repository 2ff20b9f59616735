"""How much of an image survives its code, from clean and from corrupted inputs, and which label the model infers."""

from typing import TYPE_CHECKING

from aebench.evaluation.metrics import Measured, Metric, Nats, Protocol, everything, same_supervision

if TYPE_CHECKING:
    from torch import Tensor

    from aebench.evaluation.context import Context


def cross_entropy(protocol: Protocol) -> Nats:
    """Comparability of the cross-entropy at x̂, which is one number whatever the variant's likelihood."""
    return Nats("bernoulli at the reconstruction", protocol["binarization"], "exact", None)


METRICS = (
    Metric("reconstruction_mse", "reconstruction MSE", "10⁻³", "↓", everything, scale=1e3, main=True, place=10),
    Metric("denoising_mse", "denoising MSE", "10⁻³", "↓", everything, scale=1e3, main=True, place=20),
    Metric("reconstruction_bce_nats", "reconstruction cross-entropy", "nats", "↓", cross_entropy, place=100),
    Metric(
        *("generative_accuracy", "generative classifier", "%", "↑", same_supervision), scale=100, digits=1, place=210
    ),
    Metric(
        *("reconstruction_mse_given_label", "reconstruction MSE given y", "10⁻³", "↓", everything), scale=1e3, place=220
    ),
    Metric("denoising_mse_given_label", "denoising MSE given y", "10⁻³", "↓", everything, scale=1e3, place=230),
)


def not_defined(context: "Context") -> dict[str, str]:
    """The figures with labels, unless the model takes them."""
    from aebench.models.labels import sampled_classes

    model = context.model
    without = "" if model.conditional_parts else "does not condition on the label"
    given_label = without or ("" if sampled_classes(model) else "its label enters neither encoder nor decoder")
    reasons = {
        "generative_accuracy": context.no_prior or without,
        "reconstruction_mse_given_label": given_label,
        "denoising_mse_given_label": given_label,
    }
    return {name: reason for name, reason in reasons.items() if reason}


def measure(context: "Context") -> Measured:
    """Squared errors a pixel, cross-entropies in nats, and 1 where the inferred label is right, else 0."""
    import torch

    from aebench.evaluation.context import batches
    from aebench.evaluation.protocol import corrupted
    from aebench.models.labels import inferred_label, sampled_classes
    from aebench.models.latent_variable_model import LatentVariableModel
    from aebench.models.objectives import binary_cross_entropy, squared_error

    model, test = context.model, context.splits.test

    def mse(x: "Tensor", x_hat: "Tensor") -> "Tensor":
        return squared_error(x, x_hat).double() / x.shape[-1]

    rows: list[dict[str, Tensor]] = []
    with torch.no_grad():
        for where, x in batches(test):
            spoilt, y = corrupted(x, context.config, where.start), test.labels[where]
            row = {}
            inferred = None
            if isinstance(model, LatentVariableModel) and model.conditional_parts:
                inferred = inferred_label(model, x)
                row["generative_accuracy"] = inferred == y
                if sampled_classes(model):
                    row["reconstruction_mse_given_label"] = mse(x, model.reconstruct(x, y))
                    row["denoising_mse_given_label"] = mse(x, model.reconstruct(spoilt, y))
            x_hat = model.reconstruct(x, inferred)
            row["reconstruction_mse"] = mse(x, x_hat)
            row["reconstruction_bce_nats"] = binary_cross_entropy(x, x_hat)
            row["denoising_mse"] = mse(x, model.reconstruct(spoilt))
            rows.append(row)
    return Measured({name: torch.cat([row[name] for row in rows]).double().cpu().numpy() for name in rows[0]})
