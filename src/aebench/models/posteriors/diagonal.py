"""diagonal: q(z|x) = N(μ(x), diag σ²(x)) (Kingma & Welling 2014)."""

from typing import Annotated, Literal, final

from pydantic import Field, model_validator
from torch import Tensor
from torch.distributions import Independent, Normal

from aebench.config import PosteriorConfig, from_list
from aebench.models.latents import diagonal_normal
from aebench.models.posteriors import PosteriorModule

# The exponential of what lies outside is 0 or infinite in single precision.
_LogVariance = Annotated[float, Field(ge=-80, le=80)]
Range = Annotated[tuple[_LogVariance, _LogVariance], from_list]


class Config(PosteriorConfig):
    """`log_variance_range`: between what values log σ² is kept, as `[-6.0, 2.0]`; null: it is free."""

    posterior: Literal["diagonal"] = "diagonal"
    log_variance_range: Range | None = None

    @model_validator(mode="after")
    def _rising(self) -> "Config":
        if self.log_variance_range and self.log_variance_range[0] >= self.log_variance_range[1]:
            found = list(self.log_variance_range)
            raise ValueError(f"log_variance_range: found {found}, allowed: the smaller number first")
        return self


def make(config: Config, latent_dim: int) -> "Diagonal":
    """It learns nothing beside the encoder."""
    return Diagonal(config, latent_dim)


@final
class Diagonal(PosteriorModule):
    """μ and log σ², side by side in the encoder's output."""

    def __init__(self, config: Config, latent_dim: int) -> None:
        super().__init__()
        self.range, self.inputs = config.log_variance_range, 2 * latent_dim

    def forward(self, output: Tensor) -> Independent[Normal]:
        """`[..., 2L]` → batch shape `[...]`."""
        mean, log_variance = output.chunk(2, dim=-1)
        return diagonal_normal(mean, log_variance.clamp(*self.range) if self.range else log_variance)
