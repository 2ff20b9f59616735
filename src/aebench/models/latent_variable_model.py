"""A generative model that can be trained: codes and reconstructions are written once, from its distributions."""

import torch
from torch import Tensor

from aebench.models.autoencoder import Autoencoder
from aebench.models.generative import GenerativeModel, Posterior, rsample_and_log_prob
from aebench.models.labels import inferred_label
from aebench.randomness import drawing_from, generator

# Samples whose mean is the code where a posterior knows no mean of its own.
_SAMPLES = 64


class LatentVariableModel(GenerativeModel, Autoencoder):
    """A variant with `prior`, `posterior` and `likelihood`, to which it adds `loss` and `noise`."""

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """E_q[z], `[B, L]`; where the posterior takes a label and none is given, its mean over p(y).

        It is the posterior's `mean` where it has one, else that of samples, the noise the same for every image.
        """
        if y is not None or "posterior" not in self.conditional_parts:
            mean = _mean(self.posterior(x, y))
            return self._sampled_mean(x, y) if mean is None else mean
        classes = torch.arange(len(self.log_class_shares), device=x.device)
        mean = _mean(self.posterior(x.unsqueeze(-2), classes))  # [B, C, L]
        if mean is None:
            mean = torch.stack([self._sampled_mean(x, label.expand(len(x))) for label in classes], dim=1)
        return self.log_class_shares.exp() @ mean

    def _sampled_mean(self, x: Tensor, y: Tensor | None) -> Tensor:
        """`[B, L]`, one image after the other, so that no code depends on the images beside it."""
        means = []
        for image, label in zip(x.split(1), [None] * len(x) if y is None else y.split(1), strict=True):
            with drawing_from(generator("mean of the posterior")):
                means.append(rsample_and_log_prob(self.posterior(image, label), (_SAMPLES,))[0].mean(0))
        return torch.cat(means)

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """E[x|z], or E[x|z, y], `[..., B, D]`."""
        return self.likelihood(z, y).mean

    def reconstruct(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """E[x|z] at the code of x, `[B, D]`; where a label is taken and none is given, y is arg max q(y|x)."""
        if y is None and self.conditional_parts & {"posterior", "likelihood"}:
            y = inferred_label(self, x)
        return self.decode(self.encode(x, y), y)


def _mean(q: Posterior) -> Tensor | None:
    """E_q[z], where q knows it."""
    try:
        mean = getattr(q, "mean", None)
    except NotImplementedError:
        return None
    return mean if isinstance(mean, Tensor) else None
