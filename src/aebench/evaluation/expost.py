"""Ex-post density estimation (Ghosh et al. 2020, §4): a density for any autoencoder, after its training.

p(z) is a mixture of Gaussians fitted to training codes, p(x|z) = N(f(z), σ² I) with σ from the validation images, and
the proposal is a Gaussian near the code. Every variant is treated alike, whatever likelihood it was trained with, so
the figures compare with each other; with the variants' own likelihoods they do not.
"""

import math
import warnings
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, MixtureSameFamily, MultivariateNormal
from torch.func import jacfwd, vmap

from aebench.data.datasets import Split
from aebench.errors import Diverged
from aebench.models.autoencoder import Autoencoder
from aebench.models.generative import GenerativeModel
from aebench.models.likelihoods.gaussian import Gaussian
from aebench.models.objectives import squared_error
from aebench.randomness import generator

COMPONENTS = 10
# Training codes that the mixture is fitted to: drawn once for all variants, many times what its parameters need.
FITTED = 20_000
# Steps from the code towards the mode of p(z|x), each this share of a Gauss–Newton step.
STEPS, DAMPING = 4, 0.8
# The posterior is not quite Gaussian; a proposal that is too narrow makes for heavy-tailed weights.
WIDENED = 1.2
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
        codes = [self._code(x, y) for x, y in _batches(sample)]
        mixture = _mixture(torch.cat(codes).double().cpu().numpy())
        self._weights, self._means, self._covariances = (values.to(chosen.device) for values in mixture)
        self._components = MultivariateNormal(self._means, self._covariances, validate_args=False)
        components = MultivariateNormal(
            self._means.float(), scale_tril=self._components.scale_tril.float(), validate_args=False
        )
        self._prior = MixtureSameFamily(Categorical(self._weights.float()), components, validate_args=False)
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
    def posterior(self, x: Tensor, y: Tensor | None = None) -> MultivariateNormal:
        """A Gaussian at the best point that `STEPS` damped Gauss–Newton steps from the code of x `[B, D]` find.

        The best has the largest p(x, z). The covariance is the inverse of JᵀJ/σ² + P, widened: J `[D, L]` is the
        decoder's Jacobian at that point, P `[L, L]` the precision of the mixture's components, weighted by their share
        in the point. But for the widening this is a Laplace approximation of p(z|x).

        Raises:
            Diverged: the decoder's derivative is not finite.
        """
        z = self._code(x, y)
        best, best_log_joint = z, x.new_full((len(x),), -math.inf)
        prior, variance = self.prior(), (2 * self.log_sigma).exp().double()
        precisions = torch.linalg.inv(self._covariances)
        for step in range(STEPS + 1):
            x_hat = self._decode(z, y)
            log_joint = Gaussian(x_hat, self.log_sigma).log_prob(x) + prior.log_prob(z)
            better = log_joint > best_log_joint
            best = torch.where(better[:, None], z, best)
            best_log_joint = torch.where(better, log_joint, best_log_joint)
            if step == STEPS:
                z = best
            jacobian = self._jacobian(z, y)  # [B, D, L]
            shares = self._shares(z)
            information = (jacobian.mT @ jacobian).double() / variance
            curvature = information + torch.einsum("bk,kij->bij", shares, precisions)
            towards_means = torch.einsum("bk,kij,bkj->bi", shares, precisions, self._means - z.double()[:, None])
            residual = (x - x_hat).unsqueeze(-1)
            gradient = (jacobian.mT @ residual).squeeze(-1).double() / variance + towards_means
            covariance = torch.linalg.inv(curvature)
            z = (z + DAMPING * (covariance @ gradient.unsqueeze(-1)).squeeze(-1)).float()
        if not bool(curvature.isfinite().all()):
            raise Diverged("ex-post density: the decoder's derivative is not finite: the run has diverged")
        scale_tril = WIDENED * torch.linalg.cholesky(covariance)
        return MultivariateNormal(best, scale_tril=scale_tril.float(), validate_args=False)

    def _shares(self, z: Tensor) -> Tensor:
        """The components' shares in z, `[B, K]`."""
        return torch.softmax(self._components.log_prob(z.double()[:, None]) + self._weights.log(), dim=-1)

    def _jacobian(self, z: Tensor, y: Tensor | None) -> Tensor:
        def decode(code: Tensor, label: Tensor | None) -> Tensor:
            return self.model.decode(code[None], None if label is None else label[None])[0]

        if not self.conditional_parts:
            jacobian: Tensor = vmap(jacfwd(lambda code: decode(code, None)))(z)
        else:
            jacobian = vmap(jacfwd(decode))(z, y)
        return jacobian

    def _code(self, x: Tensor, y: Tensor | None) -> Tensor:
        return self.model.encode(x, y if self.conditional_parts else None)

    def _decode(self, z: Tensor, y: Tensor | None) -> Tensor:
        return self.model.decode(z, y if self.conditional_parts else None)


def _mixture(codes: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
    """Weights `[K]`, means `[K, L]` and covariances `[K, L, L]` of a mixture of Gaussians fitted to codes `[N, L]`."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a density that is not quite the best is a density too
        fitted = GaussianMixture(min(COMPONENTS, len(codes)), random_state=0).fit(codes)
    weights, means, covariances = (
        torch.from_numpy(values) for values in (fitted.weights_, fitted.means_, fitted.covariances_)
    )
    return weights, means, covariances


def _batches(split: Split) -> Iterator[tuple[Tensor, Tensor]]:
    for start in range(0, len(split), _BATCH):
        where = slice(start, min(start + _BATCH, len(split)))
        yield split.pixels(where), split.labels[where]
