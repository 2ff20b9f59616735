"""Ex-post density estimation (Ghosh et al. 2020, §4): a density for any autoencoder, after its training.

p(z) is a mixture of Gaussians fitted to training codes, p(x|z) = N(f(z), σ² I) with σ from the validation images, and
the proposal is Laplace's from the code on. Every variant is treated alike, whatever likelihood it was trained with, so
the figures compare with each other; with the variants' own likelihoods they do not.
"""

import math
import warnings
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, Independent, MixtureSameFamily, MultivariateNormal, Normal

from aebench.data.datasets import Split
from aebench.models.autoencoder import Autoencoder
from aebench.models.generative import GenerativeModel
from aebench.models.likelihoods.gaussian import Gaussian
from aebench.models.objectives import squared_error
from aebench.randomness import generator

COMPONENTS = 10
# Training codes that the mixture is fitted to: drawn once for all variants, many times what its parameters need.
FITTED = 20_000
# The standard deviation of q(z|x) before it is fitted, as a share of that of the codes.
NEARBY = 0.01
# A decoder that reproduces every pixel exactly would have no density.
SMALLEST_SIGMA = 1e-4
_BATCH = 1000


class ExPost(GenerativeModel):
    """An autoencoder as p(y) p(z) p(x|z, y) with a proposal q(z|x, y), as estimators take it.

    A label that enters encoder or decoder stays in the model; one that moved the prior alone is gone with that prior.
    """

    @torch.no_grad()
    def __init__(self, model: Autoencoder, train: Split, validation: Split) -> None:
        """Fit p(z) to codes of `train`, and σ to the errors on `validation`, or on `train` where that is empty."""
        self.model = model
        self.conditional_parts = model.conditional_parts & {"posterior", "likelihood"}
        self.log_class_shares: Tensor = getattr(model, "log_class_shares", torch.zeros(1))
        chosen = torch.randperm(len(train), generator=generator("ex-post codes"))[:FITTED].to(train.labels.device)
        sample = Split(train.images[chosen], train.labels[chosen], train.dynamic_binarization)
        codes = torch.cat([self._code(x, y) for x, y in _batches(sample)])
        self._nearby = NEARBY * codes.std(0).clamp(min=SMALLEST_SIGMA)
        weights, means, scale_tril = (values.to(codes) for values in _mixture(codes.double().cpu().numpy()))
        components = MultivariateNormal(means, scale_tril=scale_tril, validate_args=False)
        self._prior = MixtureSameFamily(Categorical(weights), components, validate_args=False)
        held_out = validation if len(validation) else train
        errors = [squared_error(x, self._decode(self._code(x, y), y)) for x, y in _batches(held_out)]
        mse = torch.cat(errors).double().mean().item() / held_out.images.shape[1]
        self.log_sigma = torch.full((), math.log(max(mse**0.5, SMALLEST_SIGMA)), device=chosen.device)

    def prior(self, y: Tensor | None = None) -> Distribution:
        """The mixture of Gaussians, whatever the label: batch shape `[]`, event shape `[L]`."""
        return self._prior

    def likelihood(self, z: Tensor, y: Tensor | None = None) -> Gaussian:
        """N(f(z, y), σ² I) for z `[..., B, L]`."""
        return Gaussian(self._decode(z, y), self.log_sigma)

    @torch.no_grad()
    def posterior(self, x: Tensor, y: Tensor | None = None) -> Independent[Normal]:
        """N(code, small): where the fit of a proposal begins."""
        code = self._code(x, y)
        return Independent(Normal(code, self._nearby.expand_as(code), validate_args=False), 1, validate_args=False)

    def _code(self, x: Tensor, y: Tensor | None) -> Tensor:
        return self.model.encode(x, y if self.conditional_parts else None)

    def _decode(self, z: Tensor, y: Tensor | None) -> Tensor:
        return self.model.decode(z, y if self.conditional_parts else None)


def _mixture(codes: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
    """A mixture of Gaussians fitted to codes `[N, L]`: weights `[K]`, means `[K, L]`, Cholesky factors `[K, L, L]`."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    # What scikit-learn adds to the diagonals of covariances has a size of its own, which the codes of a variant that
    # keeps them small would feel.
    scale = float(codes.std(0).mean()) or 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a density that is not quite the best is a density too
        fitted = GaussianMixture(min(COMPONENTS, len(codes)), random_state=0).fit(codes / scale)
    scale_tril = scale * torch.linalg.cholesky(torch.from_numpy(fitted.covariances_))
    return torch.from_numpy(fitted.weights_), scale * torch.from_numpy(fitted.means_), scale_tril


def _batches(split: Split) -> Iterator[tuple[Tensor, Tensor]]:
    for start in range(0, len(split), _BATCH):
        where = slice(start, min(start + _BATCH, len(split)))
        yield split.pixels(where), split.labels[where]
