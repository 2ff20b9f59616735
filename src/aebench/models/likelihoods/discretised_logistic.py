"""discretised_logistic: the grey values 0 to 255 with the probabilities of a logistic distribution that is rounded.

A pixel x = v/255 has p(v) = F((v + ½)/255) − F((v − ½)/255), F the distribution function of a logistic with location μ
and scale s; 0 takes all that lies below, and 255 all above (Kingma et al. 2016, §C; Salimans et al. 2017, §2.1).

The decoder gives two values a pixel, a and b: μ = ½ + a, and with b log s goes from one end to the other as a sigmoid.
A scale for each pixel of each image is what PixelCNN++ (Salimans et al.) and the networks of the VampPrior (Tomczak &
Welling 2018) have. Kingma et al. learn one for each channel, with which a black border is as uncertain as what it
surrounds.

The ends of log s keep p(v) and its gradients finite. The lower one is that of PixelCNN++, −7 where pixels go from −1 to
1: s is a ninth of a grey value, and p(v) at most 0.97 but for 0 and 255. The upper one, where s spans the grey values,
is that of the VampPrior's published code. There log s is clipped, here it has a gradient near the ends as well. Nor is
μ clipped to [0, 1] as there: black would have a probability of little more than a half wherever s is not small.
"""

import math
from typing import ClassVar, Literal, final

import torch
from torch import Tensor

from aebench.config import LikelihoodConfig
from aebench.models.likelihoods import Likelihood, PixelDistribution, positive, slope_of_sigmoid

# The largest grey value; neighbours are 1/WHITE apart.
WHITE = 255
# Of log s, in units of x.
LOWEST, HIGHEST = -7 - math.log(2), 0.0
# That of b = 0, where training begins: the σ at which a Gaussian's does. A narrow one costs epochs.
FIRST = math.log(0.25)
_OFFSET = math.log((FIRST - LOWEST) / (HIGHEST - FIRST))


class Config(LikelihoodConfig):
    """It has no settings of its own."""

    OUTPUTS: ClassVar[int] = 2
    GREY = "a likelihood of the 256 grey values"
    OF_8_BITS = True
    REFUSED = "it gives probabilities to 256 grey values"

    likelihood: Literal["discretised_logistic"] = "discretised_logistic"


def make(config: Config) -> PixelDistribution:
    """It learns nothing itself."""
    return PixelDistribution(DiscretisedLogistic)


@final
class DiscretisedLogistic(Likelihood):
    """Independent pixels v/255, v in 0..255; location and log s `[..., D]`."""

    def __init__(self, output: Tensor) -> None:
        """`output`: a and b side by side, `[..., 2·D]`."""
        self.output = output
        a, b = output.chunk(2, dim=-1)
        self.location = 0.5 + a
        self._logit = b + _OFFSET
        self.log_scale = LOWEST + (HIGHEST - LOWEST) * torch.sigmoid(self._logit)

    @property
    def mean(self) -> Tensor:
        """E[min(max(y, 0), 1)] of the logistic variable y before it is rounded, `[..., D]`.

        That is the integral of 1 − F over [0, 1]. E[x|z] is the sum over the midpoints of 255 intervals, and differs by
        less than half a grey value, by much less where s is not small.
        """
        scale = torch.exp(self.log_scale)
        to_black, to_white = self.location.abs() / scale, (1 - self.location).abs() / scale
        tails = torch.log1p(torch.exp(-to_black)) - torch.log1p(torch.exp(-to_white))
        at_most_white = torch.where(self.location < 1, self.location, 1.0)
        return torch.where(self.location > 0, at_most_white, 0.0) + scale * tails

    @property
    def curvature(self) -> Tensor:
        """Σ_v p(v)·(∂ log p(v) / ∂ output)² over all 256 values, `[..., 2·D]`.

        With l and u as in `log_prob`, and F' = F·(1 − F), ∂ log p(v)/∂μ = (F(u) + F(l) − 1)/s, and ∂ log p(v)/∂ log s =
        −(u·F'(u) − l·F'(l)) / (F(u) − F(l)), which the factors there turn into quotients of values at l and at u.
        """
        per_scale = torch.exp(-self.log_scale)
        half = per_scale * (0.5 / WHITE)
        gap = -torch.expm1(-2 * half)
        of_location, of_log_scale = torch.zeros_like(half), torch.zeros_like(half)
        lower, below_lower, above_lower = torch.full_like(half, -80), torch.zeros_like(half), torch.ones_like(half)
        for value in range(WHITE + 1):
            # As far as this from μ, p(v) is 0 to float32, and no quotient is one of zeros.
            upper, distance = (
                ((grey / WHITE - self.location) * per_scale).clamp(-80, 80) for grey in (value + 0.5, value)
            )
            below_upper, above_upper = torch.sigmoid(upper), torch.sigmoid(-upper)
            if value == 0:
                p, shift = below_upper, -above_upper
                stretch = upper * shift
            elif value == WHITE:
                p, shift = above_lower, below_lower
                stretch = lower * shift
            else:
                p, shift = below_upper * above_lower * gap, below_lower - above_upper
                slopes = (above_upper / above_lower + below_lower / below_upper) / gap
                stretch = distance * shift - half * slopes
            of_location += p * shift**2
            of_log_scale += p * stretch**2
            lower, below_lower, above_lower = upper, below_upper, above_upper
        slope = (HIGHEST - LOWEST) * slope_of_sigmoid(self._logit)
        return positive(torch.cat([of_location * per_scale**2, of_log_scale * slope**2], dim=-1))

    def log_prob(self, x: Tensor) -> Tensor:
        """Σ log p(v) over pixels, in nats.

        With u and l for the ends of the interval around v, F(u) − F(l) = F(u)·(1 − F(l))·(1 − e^(l − u)), l and u in
        units of s from μ: no factor vanishes before the difference does. 0 has the first one alone, 255 the second.
        """
        per_scale = torch.exp(-self.log_scale)
        half = per_scale * (0.5 / WHITE)
        distance = (x - self.location) * per_scale
        not_black, not_white = x > 0.5 / WHITE, x < 1 - 0.5 / WHITE
        log_p = torch.where(not_white, -_softplus(-distance - half), 0.0)
        log_p = log_p - torch.where(not_black, _softplus(distance - half), 0.0)
        return (log_p + torch.where(not_black & not_white, torch.log(-torch.expm1(-2 * half)), 0.0)).sum(-1)

    def sample(self) -> Tensor:
        """Grey values v/255 `[..., D]`: logistic variables, by inversion of F, to the nearest."""
        uniform = torch.rand_like(self.location)
        drawn = self.location + torch.exp(self.log_scale) * (torch.log(uniform) - torch.log1p(-uniform))
        return torch.ceil(drawn.clamp(0, 1) * WHITE - 0.5) / WHITE


def _softplus(t: Tensor) -> Tensor:
    """log(1 + e^t), of any shape, by operators of which it is known that they give the same bits on every CPU."""
    return 0.5 * (t + t.abs()) + torch.log1p(torch.exp(-t.abs()))
