"""Priors, posteriors and objectives of the literature, against independent answers."""

import math
from collections.abc import Callable

import pytest
import torch
from conftest import block, network, tiny
from oracles import LinearGaussian
from pydantic import create_model
from torch import Tensor
from torch.distributions import (
    Categorical,
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    Uniform,
    kl_divergence,
)

from aebench import variants
from aebench.config import PosteriorConfig
from aebench.errors import ConfigError
from aebench.models import posteriors
from aebench.models.autoencoder import ImageSpec
from aebench.models.divergences import mmd
from aebench.models.generative import GenerativeModel, divergence
from aebench.models.latent_variable_model import LatentVariableModel
from aebench.models.latents import NormalMixture, diagonal_normal, drawn, unit_normal
from aebench.models.likelihoods import make
from aebench.models.likelihoods.bernoulli import Config as BernoulliConfig
from aebench.models.objectives import loss, objectives
from aebench.models.posteriors import Flow
from aebench.models.posteriors.iaf import AutoregressiveFlow, Step
from aebench.models.posteriors.planar import PlanarFlow
from aebench.models.priors import priors
from aebench.parsing import parse, parse_with_parts
from aebench.randomness import drawing_from, generator
from aebench.variants.hvae import HVAE

B, L = 4, 3


def normal(*shape: int, key: str = "") -> Tensor:
    return torch.randn(shape, generator=generator("parts", key), dtype=torch.float64)


def posterior(name: str, latents: int = L, **settings: object) -> tuple[posteriors.PosteriorModule, Tensor]:
    """One with random weights in double precision, and an encoder's output `[B, inputs]` for it."""
    block = posteriors.posteriors()[name]
    with drawing_from(generator("weights", name)):
        module = posteriors.make(parse(block, {**block.EXAMPLE, **settings, "posterior": name}), latents).double()
    return module, normal(B, module.inputs, key=name)


# Priors


def mixture() -> tuple[NormalMixture, MixtureSameFamily]:
    means, scales, log_weights = 3 * normal(5, L), normal(5, L).exp(), torch.tensor([0.1, 0.2, 0.3, 0.15, 0.25]).log()
    components = Independent(Normal(means, scales), 1)
    return NormalMixture(means, scales, log_weights), MixtureSameFamily(Categorical(logits=log_weights), components)


def test_the_density_of_a_mixture_is_torchs() -> None:
    found, general = mixture()
    for z in (normal(7, 2, L, key="z"), 50 + normal(7, 2, L, key="far")):
        torch.testing.assert_close(found.log_prob(z), general.log_prob(z))
    narrow = NormalMixture(torch.full((3, 40), 2.0), torch.full((3, 40), math.exp(-3)), torch.zeros(3))
    z = 2 + math.exp(-3) * normal(9, 40).float()
    expected = Independent(Normal(torch.full((40,), 2.0), math.exp(-3)), 1).log_prob(z)
    torch.testing.assert_close(narrow.log_prob(z), expected, atol=1e-3, rtol=0)  # nothing is lost in the squares


def test_samples_of_a_mixture_have_its_moments() -> None:
    found, general = mixture()
    with drawing_from(generator("samples")):
        drawn = found.sample((200_000,))
    assert drawn.shape == (200_000, L)
    torch.testing.assert_close(drawn.mean(0), general.mean, atol=0.05, rtol=0)
    torch.testing.assert_close(drawn.var(0), general.variance, atol=0, rtol=0.03)


def test_the_vampprior_is_the_mean_of_the_posteriors_of_its_pseudo_inputs() -> None:
    model = tiny("vae", prior="vampprior", pseudo_inputs=4).double()
    assert isinstance(model, LatentVariableModel)
    pseudo_inputs = model.to_prior.pseudo_inputs  # type: ignore[union-attr]
    with torch.no_grad():
        pseudo_inputs[0] = 3.0  # an image all the same: 1
    of_each = [model.posterior(image.clamp(0, 1)[None]) for image in pseudo_inputs]
    z = normal(6, L, key="z")
    expected = torch.stack([q.log_prob(z) for q in of_each]).logsumexp(0) - math.log(4)  # type: ignore[union-attr]
    torch.testing.assert_close(model.prior().log_prob(z), expected)


def test_the_prior_of_two_levels_is_that_of_the_upper_and_then_of_the_lower() -> None:
    model = tiny("hvae", prior="mixture", components=2).double()
    assert isinstance(model, LatentVariableModel)
    z = normal(6, L, key="z")
    lower, upper = z[:, :2], z[:, 2:]
    mean, log_variance = model.between(upper).chunk(2, -1)  # type: ignore[operator]
    given_upper = Normal(mean, (0.5 * log_variance).exp()).log_prob(lower).sum(-1)
    of_upper = model.to_prior(None).log_prob(upper)  # type: ignore[operator]
    torch.testing.assert_close(model.prior().log_prob(z), of_upper + given_upper)
    with drawing_from(generator("samples")):
        samples = model.prior().sample(torch.Size((50_000,)))
        once_more = Normal(mean, (0.5 * log_variance).exp()).sample()
    assert samples.shape == (50_000, L)
    assert once_more.shape == lower.shape
    # E[log p] of its own samples is larger than that of any others: here of those that are shifted.
    assert model.prior().log_prob(samples).mean() > model.prior().log_prob(samples + 0.5).mean()


def test_the_posterior_of_two_levels_scores_what_it_draws() -> None:
    model = tiny("hvae").double()
    assert isinstance(model, LatentVariableModel)
    x, noise = normal(B, 64).sigmoid(), normal(B, L, key="noise")
    _, log_q = drawn(model.posterior(x), noise)
    assert log_q is not None
    jacobian = torch.autograd.functional.jacobian(lambda noise: drawn(model.posterior(x), noise)[0], noise)
    of_each = torch.stack([jacobian[i, :, i] for i in range(B)])
    expected = unit_normal(torch.zeros_like(noise)).log_prob(noise) - torch.linalg.slogdet(of_each)[1]
    torch.testing.assert_close(log_q, expected)
    # The lower level knows the upper one.
    assert not torch.allclose(of_each[:, :2, 2], torch.zeros(B, 2).double())


# Posteriors


@pytest.mark.parametrize("name", ["iaf", "planar", "full_covariance"])
def test_the_density_of_a_draw_is_that_of_its_noise_over_the_change_of_volume(name: str) -> None:
    module, output = posterior(name)
    noise = normal(B, L, key="noise")
    z, log_q = drawn(module(output), noise)
    assert log_q is not None
    jacobian = torch.autograd.functional.jacobian(lambda noise: drawn(module(output), noise)[0], noise)
    of_each = torch.stack([jacobian[i, :, i] for i in range(B)])
    expected = unit_normal(torch.zeros_like(noise)).log_prob(noise) - torch.linalg.slogdet(of_each)[1]
    torch.testing.assert_close(log_q, expected)
    # No draw depends on another image.
    alone = drawn(module(output[1:2]), noise[1:2])
    torch.testing.assert_close(alone[0][0], z[1])


def test_a_step_of_iaf_moves_each_dimension_by_those_before_it() -> None:
    step = Step(5, 11).double()
    z, context = normal(1, 5), normal(1, 11)
    for place in (0, 1):
        jacobian = torch.autograd.functional.jacobian(lambda z, place=place: step(z, context)[place][0], z)[:, 0]
        assert torch.equal(jacobian, jacobian.tril(-1))
        assert (jacobian[1:, 0] != 0).all()
    flow = AutoregressiveFlow(normal(1, 5), normal(1, 5), context, torch.nn.ModuleList([step, step]))
    through = torch.autograd.functional.jacobian(lambda z: flow.transformed(z)[0], z)[0, :, 0]
    assert (through.flip(0).triu(1) != 0).any()  # the second step goes the other way


def test_a_planar_map_can_be_inverted_whatever_the_encoder_says() -> None:
    u, w = -8 * torch.ones(1, L).double(), torch.ones(1, L).double()  # wᵀu = −24
    flow = PlanarFlow(torch.zeros(1, L).double(), torch.zeros(1, L).double(), [(u, w, torch.zeros(1).double())])
    z = torch.linspace(-4, 4, 200).double()[:, None, None].expand(-1, 1, L)
    moved, log_det = flow.transformed(z)
    assert (moved.sum(-1).diff(dim=0) > 0).all()
    assert log_det.isfinite().all()
    # 1 + wᵀû is 4e-11, less than single precision tells from 0 beside 1; the point in the middle has no other change.
    rough = PlanarFlow(torch.zeros(1, L), torch.zeros(1, L), [(u.float(), w.float(), torch.zeros(1))])
    torch.testing.assert_close(rough.transformed(z.float())[1], log_det.float(), rtol=1e-4, atol=1e-4)
    middle = rough.transformed(torch.zeros(1, 1, L))[1]
    torch.testing.assert_close(middle, torch.tensor([[-24.0]]))


def test_a_flow_that_does_nothing_is_its_gaussian() -> None:
    class Still(Flow):
        def transformed(self, z: Tensor) -> tuple[Tensor, Tensor]:
            return z, torch.zeros_like(z[..., 0])

    mean, log_scale = normal(B, L, key="mean"), normal(B, L, key="scale")
    with drawing_from(generator("noise")):
        z, log_q = Still(mean, log_scale).rsample_and_log_prob(torch.Size((7,)))
    torch.testing.assert_close(log_q, diagonal_normal(mean, 2 * log_scale).log_prob(z))


def test_a_full_covariance_takes_all_of_the_encoders_numbers() -> None:
    module, output = posterior("full_covariance")
    assert not [*module.buffers()]  # a map from the numbers to the triangle would have L⁴/2 entries
    q = module(output)
    assert isinstance(q, MultivariateNormal)
    below = torch.tril_indices(L, L, -1)
    torch.testing.assert_close(q.scale_tril[:, below[0], below[1]], output[:, 2 * L :])
    torch.testing.assert_close(q.scale_tril.diagonal(dim1=-2, dim2=-1).log(), 0.5 * output[:, L : 2 * L])
    z, log_q = drawn(q, normal(B, L, key="noise"))
    torch.testing.assert_close(log_q, q.log_prob(z))


def test_the_divergence_of_a_full_covariance_has_a_closed_form() -> None:
    """Also from a prior of other widths for each image; compared with torch's for two full covariances."""
    module, output = posterior("full_covariance")
    q, offsets = module(output), normal(B, L, key="offsets")
    for p in (unit_normal(torch.zeros(L).double()), diagonal_normal(offsets, normal(B, L, key="log variances"))):
        full = MultivariateNormal(p.mean, torch.diag_embed(p.variance))
        torch.testing.assert_close(divergence(q, p, no_samples), kl_divergence(q, full).expand(B))
    box = Independent(Uniform(-torch.ones(L), torch.ones(L)), 1)
    assert torch.equal(divergence(q, box, lambda: -torch.ones(2, B)), torch.ones(B))


def no_samples() -> Tensor:
    raise AssertionError("the divergence is taken from samples")


def test_log_variances_stay_in_their_range() -> None:
    module, output = posterior("diagonal", log_variance_range=[-0.5, 0.25])
    q = module(output)
    assert isinstance(q, Independent)
    log_variances = 2 * q.base_dist.scale.log()
    torch.testing.assert_close(log_variances, output[:, L:].clamp(-0.5, 0.25))
    assert (output[:, L:] > 0.25).any()


def test_no_pixel_is_less_likely_than_its_smallest_probability() -> None:
    pixels = make(BernoulliConfig(smallest_probability=1e-5))
    log_px = pixels(torch.tensor([[-80.0], [80.0]])).log_prob(torch.tensor([[1.0], [0.0]]))
    torch.testing.assert_close(log_px, torch.full((2,), math.log(1e-5)))
    assert make(BernoulliConfig())(torch.tensor([-80.0])).log_prob(torch.ones(1)).item() == -80


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"posterior": "iaf", "steps": 1, "prior": "vampprior"},
            "posterior: found iaf with prior vampprior, allowed: ",
        ),
        (
            {"posterior": "planar", "maps": 1, "objective": "iwae", "gradient": "dreg"},
            "posterior: found planar with objective iwae with gradient dreg, allowed: diagonal, full_covariance",
        ),
        (
            {"objective": "tcvae", "total_correlation_weight": 2, "posterior": "full_covariance"},
            "posterior: found full",
        ),
        (
            {"objective": "tcvae", "total_correlation_weight": 2, "prior": "vampprior"},
            "prior: found vampprior with objective tcvae, allowed: standard_normal",
        ),
        ({"steps": 2}, "steps: found 2 with diagonal, allowed: with posterior: iaf"),
        ({"log_variance_range": [2.0, -6.0]}, r"log_variance_range: found \[2.0, -6.0\], allowed: the smaller"),
        ({"objective": "iwae", "samples": 5, "beta": 2.0}, "beta: found 2.0 with objective iwae, allowed: 1"),
        (
            {"objective": "infovae", "information": 0, "match": 1, "prior": "mixture", "components": 2},
            "prior: found mixture with objective infovae, allowed: standard_normal",
        ),
        ({"prior": "exemplar", "posterior": "full_covariance"}, "posterior: found full_covariance with prior exemplar"),
        (
            {"prior": "exemplar", "objective": "infovae", "information": 0, "match": 1},
            "prior: found exemplar with objective infovae, allowed: standard_normal",
        ),
        (
            {"prior": "exemplar", "exemplars": 9, "exemplars_a_step": 10},
            "exemplars_a_step: found 10 with 9 exemplars, allowed: at most 9",
        ),
        ({"prior": "exemplar", "exemplars_a_step": 1}, "exemplars_a_step: found 1, allowed: "),
        ({"prior": "vamp"}, r"prior: found 'vamp', allowed: .* \(did you mean vampprior\?\)"),
    ],
)
def test_parts_that_do_not_fit_are_one_line(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=rf"^models\.mine\.{message}"):
        variants.configuration({"kind": "vae", **settings}, "models.mine")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"objective": "infovae", "information": 0, "match": 1},
            "objective: found infovae, which needs",
        ),
        ({"objective": "iwae", "gradient": "stl"}, "objective: found iwae with gradient stl, which needs diagonal"),
        ({"log_variances": [2.0, -6.0]}, r"log_variances: found \[2.0, -6.0\], allowed: the smaller"),
    ],
)
def test_what_two_levels_do_not_have_is_one_line(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=rf"^models\.mine\.{message}"):
        variants.configuration({"kind": "hvae", "hidden_of_levels": [8], **settings}, "models.mine")


def test_two_levels_need_two_dimensions() -> None:
    message = "network.latent_dim: found 1 with hvae, allowed: at least 2"
    assert block("hvae").misfit(network(latent_dim=1)) == message
    assert block("hvae").misfit(network(latent_dim=2)) == ""


def test_all_weights_of_two_levels_are_drawn_as_the_networks_are() -> None:
    spec = ImageSpec((1, 28, 28), (0.5, 0.5))
    wide = network("gated_mlp", latent_dim=80, hidden=[300], weights="he_normal")
    with drawing_from(generator("weights")):
        model = variants.build(block("hvae", hidden_of_levels=[300, 300]), wide, spec)
    weights = {name: weight for name, weight in model.named_parameters() if weight.dim() == 2}
    inputs = {"lower_encoder.of_vector.weight": 784 + 40, "lower_encoder.network.0.weight": 784}
    for name, weight in weights.items():
        assert weight.std().item() == pytest.approx(math.sqrt(2 / inputs.get(name, weight.shape[1])), rel=0.05), name


def test_no_setting_of_a_part_has_the_name_of_another_part() -> None:
    mine = create_model("Mine", __base__=PosteriorConfig, prior=(str, "mine"))
    parts = {"likelihood": {}, "prior": priors(), "posterior": {"mine": mine}, "objective": {}}
    message = "prior: found as a setting of both the variant vae and the posterior mine, "
    with pytest.raises(ConfigError, match=f"^{message}"):
        parse_with_parts({"vae": variants.kinds()["vae"]}, "kind", parts, {"kind": "vae"}, "models.mine")  # type: ignore[arg-type]


# Objectives


class Toy(GenerativeModel):
    """Probabilistic PCA of five pixels whose encoder and decoder are learned: q is a Gaussian with free parameters."""

    conditional_parts: frozenset[str] = frozenset()
    log_class_shares = torch.zeros(1)

    def __init__(self, *, exact: bool = False) -> None:
        self.right = LinearGaussian()
        self.decoder = self.right.weights.clone().requires_grad_()
        self.exact, x = exact, normal(B, 5, key="x")
        q = self.right.exact_posterior(x)
        self.mean = (q.mean + (0 if exact else 0.3)).detach().requires_grad_()
        self.factor = (q.scale_tril * (1 if exact else 1.2)).expand(B, 3, 3).detach().clone().requires_grad_()
        self.x = x

    def prior(self, y: Tensor | None = None) -> Independent[Normal]:
        return unit_normal(torch.zeros(3).double())

    def posterior(self, x: Tensor, y: Tensor | None = None) -> MultivariateNormal:
        return MultivariateNormal(self.mean, scale_tril=self.factor.tril(), validate_args=False)

    def likelihood(self, z: Tensor, y: Tensor | None = None):  # type: ignore[no-untyped-def]
        self.right.weights = self.decoder
        return self.right.likelihood(z)


def terms(
    model: GenerativeModel, x: Tensor, draws: tuple[int, ...], key: str = "", **settings: object
) -> dict[str, Tensor]:
    block = objectives()[str(settings["objective"])]
    config = parse(block, settings)
    assert config.draws == draws
    y, noise = torch.zeros(len(x)), normal(*draws, len(x), 3, key=key)
    return loss(config, model, model.prior(), x, y, noise, None)


def gradients(model: Toy, **settings: object) -> list[Tensor]:
    value = terms(model, model.x, (6,), objective="iwae", samples=6, **settings)["loss"].sum()  # type: ignore[arg-type]
    return list(torch.autograd.grad(value, [model.decoder, model.mean, model.factor]))


def test_at_the_exact_posterior_the_sticking_gradient_of_the_encoder_is_nothing() -> None:
    """Roeder et al. 2017, §2: the weights are constant along the samples."""
    model = Toy(exact=True)
    for gradient, vanishes in (("stl", True), ("dreg", True), ("standard", False)):
        _, of_mean, of_factor = gradients(model, gradient=gradient)
        assert (of_mean.abs().max() < 1e-9) == vanishes
        assert (of_factor.abs().max() < 1e-9) == vanishes


def test_other_gradients_leave_the_bound_and_the_decoders_gradient_alone() -> None:
    model = Toy()
    values = [
        terms(model, model.x, (6,), objective="iwae", samples=6, gradient=gradient)
        for gradient in ("standard", "stl", "dreg")
    ]
    for other in values[1:]:
        for name, expected in values[0].items():
            torch.testing.assert_close(other[name], expected)
    standard, stl, dreg = (gradients(model, gradient=gradient) for gradient in ("standard", "stl", "dreg"))
    torch.testing.assert_close(stl[0], standard[0])
    torch.testing.assert_close(dreg[0], standard[0])
    assert not torch.allclose(dreg[1], standard[1])


def test_the_doubly_reparameterised_gradient_is_equation_8_of_its_paper() -> None:
    """Σ_k w̃_k² (∂ log w_k/∂z_k) (∂z_k/∂φ), image by image and sample by sample."""
    model, samples = Toy(), 6
    _, of_mean, of_factor = gradients(model, gradient="dreg")
    noise, fixed = normal(samples, B, 3), model.posterior(model.x)
    for image in range(B):
        mean, factor = model.mean[image].detach(), model.factor[image].detach().tril()
        q = MultivariateNormal(mean, scale_tril=factor)
        slopes, log_weights = [], []
        for epsilon in noise[:, image]:
            z = (mean + factor @ epsilon).requires_grad_()
            log_joint = model.likelihood(z).log_prob(model.x[image]) + model.prior().log_prob(z)
            log_weight = log_joint - q.log_prob(z)
            slopes.append(torch.autograd.grad(log_weight, z)[0])
            log_weights.append(log_weight.detach())
        shares = torch.stack(log_weights).softmax(0).square()
        expected = -sum(share * slope for share, slope in zip(shares, slopes, strict=True))
        torch.testing.assert_close(of_mean[image], expected)
        outer = -sum(
            share * torch.outer(slope, epsilon)
            for share, slope, epsilon in zip(shares, slopes, noise[:, image], strict=True)
        )
        torch.testing.assert_close(of_factor[image], outer.tril())
    assert fixed.batch_shape == (B,)


def test_the_doubly_reparameterised_gradient_is_unbiased_and_the_sticking_one_is_not() -> None:
    """Over many draws its mean is that of the plain one, whose noise is larger (Tucker et al. 2019, figure 1)."""
    model, draws = Toy(), 3000
    wide = Toy()
    wide.x = model.x.repeat(draws, 1)
    wide.mean = model.mean.detach().repeat(draws, 1).requires_grad_()
    wide.factor = model.factor.detach().repeat(draws, 1, 1).requires_grad_()

    def of_mean(gradient: str) -> Tensor:
        value = terms(wide, wide.x, (6,), objective="iwae", samples=6, gradient=gradient)["loss"].sum()
        return torch.autograd.grad(value, wide.mean)[0].view(draws, B, 3)

    standard, stl, dreg = map(of_mean, ("standard", "stl", "dreg"))
    error = ((standard - dreg).var(0) / draws).sqrt()
    assert ((standard.mean(0) - dreg.mean(0)).abs() < 4.5 * error).all()
    assert (dreg.var(0).mean() < 0.5 * standard.var(0).mean()).item()
    biased = ((stl.mean(0) - dreg.mean(0)).abs() / ((stl - dreg).var(0) / draws).sqrt()).max()
    assert biased > 10


def test_several_bounds_lie_between_one_and_the_elbo() -> None:
    model = Toy()
    one = terms(model, model.x, (6,), objective="iwae", samples=6)["loss"]
    as_one = terms(model, model.x, (6, 1), objective="miwae", samples_a_bound=6, bounds=1)["loss"]
    torch.testing.assert_close(as_one, one)
    split = terms(model, model.x, (3, 2), objective="miwae", samples_a_bound=3, bounds=2)["loss"]
    noise = normal(3, 2, B, 3)
    for each in range(2):
        assert noise[:, each].shape == (3, B, 3)
    elbo = terms(model, model.x, (1, 6), objective="miwae", samples_a_bound=1, bounds=6)
    log_weight = terms(model, model.x, (6,), objective="ciwae", samples=6, elbo_share=1.0)
    torch.testing.assert_close(elbo["loss"], log_weight["loss"])
    assert split.mean() < elbo["loss"].mean()


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_mean_of_two_bounds_is_that(share: float) -> None:
    model = Toy()
    found = terms(model, model.x, (6,), objective="ciwae", samples=6, elbo_share=share)
    iwae = terms(model, model.x, (6,), objective="iwae", samples=6)["loss"]
    q, z = model.posterior(model.x), drawn(model.posterior(model.x), normal(6, B, 3))[0]
    log_w = model.likelihood(z).log_prob(model.x) + model.prior().log_prob(z) - q.log_prob(z)
    torch.testing.assert_close(found["loss"], -share * log_w.mean(0) + (1 - share) * iwae)


def test_the_three_parts_of_the_divergence_add_up_to_it() -> None:
    model = tiny("vae").double()
    assert isinstance(model, LatentVariableModel)
    x = normal(30, 64).sigmoid()
    found = terms(model, x, (), objective="tcvae", total_correlation_weight=1.0)
    z = drawn(model.posterior(x), normal(30, 3))[0]
    log_q = model.posterior(x).log_prob(z)  # type: ignore[union-attr]
    parts = sum(found[f"{name}_nats"] for name in ("mutual_information", "total_correlation", "dimension_wise"))
    torch.testing.assert_close(parts, log_q - model.prior().log_prob(z))
    weighted = terms(model, x, (), objective="tcvae", total_correlation_weight=5.0)["loss"]
    torch.testing.assert_close(weighted - found["loss"], 4 * found["total_correlation_nats"])
    alone = terms(model, x[:1], (), objective="tcvae", total_correlation_weight=5.0)
    assert alone["mutual_information_nats"].item() == pytest.approx(0)
    assert alone["total_correlation_nats"].item() == pytest.approx(0)


def test_the_total_correlation_is_of_the_mixture_of_the_batch() -> None:
    """Against torch's mixture, and its marginals one by one."""
    model = tiny("vae").double()
    assert isinstance(model, LatentVariableModel)
    x = normal(30, 64).sigmoid()
    found = terms(model, x, (), objective="tcvae", total_correlation_weight=1.0)
    q = model.posterior(x)
    assert isinstance(q, Independent)
    z, equal = drawn(q, normal(30, 3))[0], Categorical(torch.ones(30).double())
    joint = MixtureSameFamily(equal, q).log_prob(z)
    marginals: list[Callable[[Tensor], Tensor]] = [
        MixtureSameFamily(equal, Normal(q.base_dist.loc[:, d], q.base_dist.scale[:, d])).log_prob for d in range(3)
    ]
    product = sum(marginal(z[:, d]) for d, marginal in enumerate(marginals))
    torch.testing.assert_close(found["total_correlation_nats"], joint - product)
    torch.testing.assert_close(found["mutual_information_nats"], q.log_prob(z) - joint)


def test_the_infovae_is_between_the_elbo_and_the_mmd_vae() -> None:
    model = tiny("vae").double()
    assert isinstance(model, LatentVariableModel)
    x, draws = normal(30, 64).sigmoid(), normal(2, 30, 3)
    found = {
        settings: terms(model, x, (2,), objective="infovae", information=settings[0], match=settings[1])
        for settings in ((0.0, 1.0), (1.0, 7.0), (0.25, 4.0))
    }
    parts = found[0.0, 1.0]
    torch.testing.assert_close(parts["loss"], parts["distortion_nats"] + parts["rate_nats"])
    z = drawn(model.posterior(x), draws[0])[0]
    torch.testing.assert_close(parts["mmd"], mmd(z, draws[1]))
    torch.testing.assert_close(found[1.0, 7.0]["loss"], parts["distortion_nats"] + 7 * parts["mmd"])
    between = parts["distortion_nats"] + 0.75 * parts["rate_nats"] + 3.25 * parts["mmd"]
    torch.testing.assert_close(found[0.25, 4.0]["loss"], between)


# Codes, ranges and beginnings


def test_the_code_of_two_levels_is_the_upper_mean_and_the_lower_one_at_it() -> None:
    model = tiny("hvae").double()
    assert isinstance(model, HVAE)
    x = normal(B, 64).sigmoid()
    upper = model.upper_posterior(x).mean
    lower = model.lower_normal(model.lower_encoder(x, upper)).mean
    assert upper.abs().min() > 0
    torch.testing.assert_close(model.encode(x), torch.cat([lower, upper], dim=-1))


def test_log_variances_of_both_levels_stay_in_their_range() -> None:
    model = tiny("hvae", log_variances=[-0.5, 0.25]).double()
    assert isinstance(model, HVAE)
    for sign, bound in ((-1, -0.5), (1, 0.25)):
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if name.startswith(("upper_encoder", "lower_encoder", "between")) and name.endswith("bias"):
                    weight.fill_(50.0 * sign)
        x, z = normal(B, 64).sigmoid(), normal(B, model.upper, key="z")
        for q in (model.upper_posterior(x), model.lower_normal(model.lower_encoder(x, z)), model.lower_prior(z)):
            log_variances = 2 * q.base_dist.scale.log()
            torch.testing.assert_close(log_variances, torch.full_like(log_variances, bound))


def test_the_code_of_a_flow_is_the_mean_of_many_samples() -> None:
    model = tiny("vae", posterior="planar", **posteriors.posteriors()["planar"].EXAMPLE)
    assert isinstance(model, LatentVariableModel)
    x = normal(B, 64).sigmoid().float()
    with torch.no_grad(), drawing_from(generator("samples")):
        samples = model.posterior(x).rsample_and_log_prob(torch.Size((20_000,)))[0]  # type: ignore[union-attr]
        off = (model.encode(x) - samples.mean(0)) / samples.std(0)
    assert off.abs().max() < 4 / 8  # of 64 samples the standard error is an eighth of their standard deviation
    assert off.abs().mean() < 1.5 / 8


def test_pseudo_inputs_begin_near_black() -> None:
    """As in the code of Tomczak & Welling 2018, at 0.05 with a standard deviation of 0.01."""
    prior = tiny("vae", prior="vampprior", pseudo_inputs=200).to_prior  # type: ignore[union-attr]
    assert prior.pseudo_inputs.mean().item() == pytest.approx(0.05, abs=0.001)  # type: ignore[union-attr,operator]
    assert prior.pseudo_inputs.std().item() == pytest.approx(0.01, abs=0.001)  # type: ignore[union-attr,operator]
