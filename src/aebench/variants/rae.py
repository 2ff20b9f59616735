"""RAE: minimise ‖x − f(z)‖² + β ½‖z‖² + λ R with z = g(x), R a regulariser of the decoder (Ghosh et al. 2020, §3).

`l2`: R = ‖θ‖², θ all weights of the decoder. `gradient_penalty`: R = ½ ‖∂f/∂z‖²_F; exactly, it takes one derivative
for each dimension of the code, with `probes` it is an unbiased estimate from fewer. The paper's third, spectral
normalisation, is left out: its power iteration changes the model in each step, which a loss here must not do.

The paper samples from a mixture of Gaussians that is fitted to the codes after training, as the ex-post density does
(`aebench.evaluation.expost`).
"""

from typing import ClassVar, Literal, final

from pydantic import model_validator
from torch import Tensor

from aebench.config import Network, Settings, VariantConfig, Weight, Width
from aebench.models.autoencoder import ImageSpec, Noise
from aebench.models.deterministic import DeterministicAutoencoder
from aebench.models.jacobian import norm_of_decoder, random_signs
from aebench.models.objectives import squared_error
from aebench.randomness import Streams


class Config(VariantConfig):
    """`code_weight`: β. `regulariser`: R. `regulariser_weight`: λ.

    `probes`: how many derivatives an estimate of the gradient penalty takes; null: it is exact.
    """

    EXAMPLE: ClassVar[Settings] = {"code_weight": 0.1, "regulariser": "l2", "regulariser_weight": 1e-3}

    kind: Literal["rae"]
    code_weight: Weight
    regulariser: Literal["l2", "gradient_penalty"]
    regulariser_weight: Weight
    probes: Width | None = None

    @model_validator(mode="after")
    def _probes_of_a_gradient(self) -> "Config":
        if self.regulariser == "l2" and self.probes is not None:
            raise ValueError(f"probes: found {self.probes} with regulariser l2, allowed: with gradient_penalty")
        return self


@final
class RAE(DeterministicAutoencoder):
    """The regularised autoencoder: a VAE whose noise has become a penalty on the decoder."""

    def __init__(self, config: Config, network: Network, spec: ImageSpec) -> None:
        super().__init__(network, spec)
        self.config, self.latent_dim = config, network.latent_dim

    def noise(self, index: Tensor, streams: Streams) -> Noise:
        """The signs of an estimate, `[P, B, L]`; nothing where there is none."""
        if self.config.probes is None:
            return ()
        return (random_signs(self.config.probes, len(index), self.latent_dim, streams["noise"]),)

    def loss(self, x: Tensor, y: Tensor, noise: Noise, *, epoch: int | None) -> dict[str, Tensor]:
        """‖x − f(z)‖² + β ½‖z‖² + λ R, and its three parts before their weights, `[B]`."""
        z = self.encode(x)
        error, code, regulariser = (
            squared_error(x, self.decode(z)),
            0.5 * z.square().sum(-1),
            self._regulariser(z, noise),
        )
        loss = error + self.config.code_weight * code + self.config.regulariser_weight * regulariser
        return {"loss": loss, "squared_error": error, "code": code, "regulariser": regulariser}

    def _regulariser(self, z: Tensor, noise: Noise) -> Tensor:
        """R, `[B]`; that of the weights is the same for all images."""
        if self.config.regulariser == "gradient_penalty":
            return 0.5 * norm_of_decoder(self.decode, z, *noise)
        squares = [weight.square().sum() for weight in self.decoder.parameters()]
        return sum(squares[1:], start=squares[0]).expand(len(z))
