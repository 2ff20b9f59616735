"""A generative model that can be trained: codes and reconstructions are written once, from its distributions."""

import torch
from torch import Tensor
from torch.distributions import Distribution

from aebench.models.autoencoder import Autoencoder
from aebench.models.generative import GenerativeModel, Posterior, rsample_and_log_prob
from aebench.models.labels import inferred_label
from aebench.randomness import drawing_from, generator

# Samples whose mean is the code where a posterior knows no mean of its own.
_SAMPLES = 64


class LatentVariableModel(GenerativeModel, Autoencoder):
    """A variant with `prior`, `posterior` and `likelihood`, on which it adds only its `loss`."""

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """E_q[z], `[B, L]`; where the posterior takes a label and none is given, its mean over p(y)."""
        if y is not None or "posterior" not in self.conditional_parts:
            return _mean(self.posterior(x, y))
        classes = torch.arange(len(self.log_class_shares), device=x.device)
        return self.log_class_shares.exp() @ _mean(self.posterior(x.unsqueeze(-2), classes))  # of [B, C, L]

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """E[x|z], or E[x|z, y], `[..., B, D]`."""
        return self.likelihood(z, y).mean

    def reconstruct(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """E[x|z] at the code of x, `[B, D]`; where a label is taken and none is given, y is arg max q(y|x)."""
        if y is None and self.conditional_parts & {"posterior", "likelihood"}:
            y = inferred_label(self, x)
        return self.decode(self.encode(x, y), y)


def _mean(q: Posterior) -> Tensor:
    """E_q[z], `[..., L]`: q's own where it has one, else from samples whose noise is always the same."""
    try:
        if isinstance(q, Distribution):
            return q.mean
    except NotImplementedError:
        pass
    with drawing_from(generator("mean of the posterior")):
        return rsample_and_log_prob(q, (_SAMPLES,))[0].mean(0)
