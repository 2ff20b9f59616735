"""One contract for every file in variants/, on a tiny configuration."""

import re
from collections.abc import Callable

import pytest
import torch
from conftest import ROOT, block, network, tiny
from safetensors.torch import save
from torch import nn

from aebench import variants
from aebench.errors import ConfigError
from aebench.models.autoencoder import Autoencoder, ImageSpec, Noise
from aebench.models.generative import Posterior, divergence, rsample_and_log_prob
from aebench.models.labels import inferred_label
from aebench.models.latent_variable_model import LatentVariableModel
from aebench.models.likelihoods import likelihoods
from aebench.models.networks import architectures
from aebench.models.objectives import objectives
from aebench.models.posteriors import posteriors
from aebench.models.priors import priors
from aebench.randomness import Streams, drawing_from, generator
from aebench.training.purity import require_purity
from aebench.training.settings import read_params

B, D, L, C = 6, 64, 3, 10
KINDS = sorted(variants.kinds())
# Every kind as it is, and the settings that change its shape.
SETTINGS: dict[str, dict[str, object]] = {
    **{kind: {"kind": kind} for kind in KINDS},
    "cvae, concat": {"kind": "cvae", "conditioning": "concat"},
    "cvae, learned_prior": {"kind": "cvae", "conditioning": "learned_prior"},
    # Every prior, posterior and objective.
    **{
        f"vae, {part}, {name}": {"kind": "vae", part: name, **config.EXAMPLE}
        for part, of_part in (("prior", priors()), ("posterior", posteriors()), ("objective", objectives()))
        for name, config in sorted(of_part.items())
    },
    **{
        f"vae, iwae, {gradient}, {posterior}": {
            **{"kind": "vae", "objective": "iwae", "samples": 3},
            **{"gradient": gradient, "posterior": posterior},
        }
        for gradient in ("stl", "dreg")
        for posterior in ("diagonal", "full_covariance")
    },
    "vae, log-variances": {"kind": "vae", "log_variance_range": [-6.0, 2.0]},
    "hvae, vampprior": {"kind": "hvae", "prior": "vampprior", "pseudo_inputs": 3},
    "hvae, exemplar": {"kind": "hvae", "prior": "exemplar", "exemplars": 5, "exemplars_a_step": 3},
    "hvae, conv": {"kind": "hvae", "architecture": "conv"},
    "hvae, iwae": {"kind": "hvae", "objective": "iwae", "samples": 3},
    "dae, salt and pepper": {"kind": "dae", "corruption": "salt_and_pepper"},
    "contractive_ae, estimated": {"kind": "contractive_ae", "probes": 2},
    "rae, gradient penalty": {"kind": "rae", "regulariser": "gradient_penalty"},
    "rae, estimated": {"kind": "rae", "regulariser": "gradient_penalty", "probes": 2},
    "sparse_ae, k_sparse": {"kind": "sparse_ae", "sparsity": "k_sparse", "l1_weight": None, "k": 2, "alpha": 1.5},
    "vae, Gaussian": {"kind": "vae", "likelihood": "gaussian", "sigma": 0.1},
    # Every likelihood, and one with two outputs a pixel with all that may stand beside it.
    **{
        f"{kind}, {likelihood}": {"kind": kind, "likelihood": likelihood, **config.EXAMPLE}
        for likelihood, config in sorted(likelihoods().items())
        for kind in ("vae", "cvae")
        if likelihood != "bernoulli"
    },
    **{
        f"{kind}, discretised logistic, {next(iter(settings.values()))}": {
            "kind": kind,
            "likelihood": "discretised_logistic",
            **settings,
        }
        for kind, settings in (
            ("vae", {"objective": "iwae", "samples": 3}),
            ("vae", {"architecture": "gated_mlp"}),
            ("vae", {"architecture": "conv"}),
            ("cvae", {"conditioning": "concat"}),
            ("cvae", {"architecture": "conv", "conditioning": "concat"}),
        )
    },
    # Every network, with and without a label beside its inputs.
    **{
        f"{kind}, {conditioning or architecture}, {architecture}": {
            "kind": kind,
            "architecture": architecture,
            **({"conditioning": conditioning} if conditioning else {}),
        }
        for architecture in sorted(architectures())
        for kind, conditioning in (("ae", ""), ("dae", ""), ("vae", ""), ("cvae", "class_prior"), ("cvae", "concat"))
        if architecture != "mlp"
    },
}
# The others with every network; what they share with those above need not be trained once more.
OTHERS: dict[str, dict[str, object]] = {
    f"{name}, {architecture}": {**settings, "architecture": architecture}
    for architecture in sorted(architectures())
    for name, settings in SETTINGS.items()
    if architecture != "mlp" and settings["kind"] not in ("ae", "dae", "vae", "cvae")
}


def loss(
    model: Autoencoder, x: torch.Tensor, y: torch.Tensor, epoch: int | None = 1, seed: int = 0
) -> dict[str, torch.Tensor]:
    return model.loss(x, y, model.noise(torch.arange(len(x)), Streams(seed)), epoch=epoch)


def made(name: str) -> Autoencoder:
    return tiny(**{**SETTINGS, **OTHERS}[name])  # type: ignore[arg-type]


@pytest.fixture(params=[*SETTINGS, *OTHERS])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def x() -> torch.Tensor:
    return torch.rand(B, D, generator=generator("x"))


@pytest.fixture
def y() -> torch.Tensor:
    return torch.arange(B) % C


def test_the_four_variants_are_there() -> None:
    assert {"ae", "dae", "vae", "cvae"} <= set(KINDS)


def test_shapes_and_ranges(kind: str, x: torch.Tensor, y: torch.Tensor) -> None:
    model = made(kind)
    for labels in (None, y):
        codes, x_hat = model.encode(x, labels), model.reconstruct(x, labels)
        assert codes.shape == (B, L)
        assert x_hat.shape == (B, D)
        assert ((x_hat >= 0) & (x_hat <= 1)).all()
    torch.testing.assert_close(model.decode(codes, y), x_hat)
    terms = loss(model, x, y)
    assert all(values.shape == (B,) for values in terms.values())
    assert "loss" in terms
    assert len(terms) > 1


def test_a_stored_model_is_the_same_again(kind: str, x: torch.Tensor) -> None:
    model = made(kind)
    settings = {"kind": kind.split(",")[0], **{**SETTINGS, **OTHERS}[kind]}
    architecture = str(settings.pop("architecture", "mlp"))
    description = {
        "model": block(**settings).model_dump(mode="json", exclude_none=True),  # type: ignore[arg-type]
        "network": network(architecture).model_dump(mode="json"),
        "images": {"shape": [1, 8, 8], "class_shares": [(1 + label) / 55 for label in range(10)]},
    }
    again = variants.restore(description, save(model.state_dict()))
    assert torch.equal(again.reconstruct(x), model.reconstruct(x))


def test_every_weight_learns(kind: str, x: torch.Tensor, y: torch.Tensor) -> None:
    model = made(kind)
    loss(model, x, y)["loss"].mean().backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.abs().sum() > 0, name


def test_the_gradient_of_a_loss_is_that_of_its_values(kind: str, x: torch.Tensor, y: torch.Tensor) -> None:
    """Along a random direction of the weights, against the difference of the losses a little way off on both sides.

    Gradients that are meant to be others have tests of their own.
    """
    model = made(kind).double()
    if model.surrogate_gradient:
        pytest.skip("its gradient is not that of its value")
    noise = tuple(
        part.double() if part.is_floating_point() else part for part in model.noise(torch.arange(B), Streams(0))
    )
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    with drawing_from(generator("direction")), torch.no_grad():
        for weight in weights:  # networks may begin at the kink of a ReLU
            weight.add_(torch.randn_like(weight), alpha=0.01)
        direction = [torch.randn_like(weight) for weight in weights]

    def mean_loss() -> torch.Tensor:
        return model.loss(x.double(), y, noise, epoch=1)["loss"].mean()

    @torch.no_grad()
    def moved(by: float) -> float:
        for weight, change in zip(weights, direction, strict=True):
            weight.add_(change, alpha=by)
        found = mean_loss().item()
        for weight, change in zip(weights, direction, strict=True):
            weight.sub_(change, alpha=by)
        return found

    gradients = torch.autograd.grad(mean_loss(), weights)
    slope = sum((part * change).sum().item() for part, change in zip(gradients, direction, strict=True))
    # The kink of a ReLU may lie within a step, and hardly within the smaller one too.
    assert any(slope == pytest.approx((moved(by) - moved(-by)) / (2 * by), rel=1e-4) for by in (1e-6, 1e-8))


def test_noise_is_drawn_from_its_streams_alone_and_for_each_batch_anew(kind: str) -> None:
    model = made(kind)
    torch.manual_seed(1)
    streams = Streams(5)
    first, second = model.noise(torch.arange(B), streams), model.noise(B + torch.arange(B), streams)
    torch.manual_seed(2)
    again, other = model.noise(torch.arange(B), Streams(5)), model.noise(2 * B + torch.arange(B), Streams(6))
    assert all(map(torch.equal, first, again))
    for drawn in (second, other):
        assert len(drawn) == len(first)
        assert not any(map(torch.equal, first, drawn))


@pytest.mark.parametrize("training", [True, False])
def test_a_loss_is_a_pure_function(kind: str, training: bool, x: torch.Tensor, y: torch.Tensor) -> None:
    """Nothing is drawn in it, and nothing is changed by it."""
    model = made(kind).train(training)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    global_state = torch.get_rng_state()
    first, again = loss(model, x, y), loss(model, x, y)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert torch.equal(torch.get_rng_state(), global_state)
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())


def test_in_training_all_is_computed_as_in_evaluation(kind: str, x: torch.Tensor, y: torch.Tensor) -> None:
    results = []
    for training in (True, False):
        model = made(kind).train(training)
        results.append([*loss(model, x, y).values(), model.encode(x), model.reconstruct(x), model.reconstruct(x, y)])
    assert all(map(torch.equal, *results))


class Spoilt(Autoencoder):
    """A variant whose network has a layer that behaves differently in training."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Sequential(nn.Linear(D, L), layer), nn.Linear(L, D)

    def loss(self, x: torch.Tensor, y: torch.Tensor, noise: Noise, *, epoch: int | None) -> dict[str, torch.Tensor]:
        return {"loss": (x - self.reconstruct(x)).square().sum(-1)}

    def encode(self, x: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
        codes: torch.Tensor = self.encoder(x)
        return codes

    def decode(self, z: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
        return torch.sigmoid(self.decoder(z))

    def reconstruct(self, x: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
        return self.decode(self.encode(x))


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.Dropout(0.5), r"a loss that draws from torch's global generator, as a dropout does, allowed: what the"),
        (
            nn.BatchNorm1d(L),
            r"a loss that changes encoder\.1\.running_mean, as a batch norm does in training, allowed: ",
        ),
    ],
    ids=["dropout", "batch norm"],
)
def test_a_loss_that_is_none_is_refused_before_training(layer: nn.Module, message: str) -> None:
    spoilt, state = Spoilt(layer), torch.get_rng_state()
    with pytest.raises(ConfigError, match=message):
        require_purity(spoilt, ImageSpec((1, 8, 8), (0.5, 0.5)))
    assert torch.equal(torch.get_rng_state(), state)
    require_purity(Spoilt(nn.LayerNorm(L)), ImageSpec((1, 8, 8), (0.5, 0.5)))


def test_a_loss_depends_on_its_noise(kind: str, x: torch.Tensor, y: torch.Tensor) -> None:
    model = made(kind)
    if not model.noise(torch.arange(B), Streams(0)):
        pytest.skip("takes nothing at random")
    assert not torch.equal(loss(model, x, y, seed=0)["loss"], loss(model, x, y, seed=1)["loss"])


def test_codes_and_reconstructions_do_not_depend_on_the_batch_or_on_chance(kind: str, x: torch.Tensor) -> None:
    model = made(kind)
    torch.testing.assert_close(model.encode(x)[2:3], model.encode(x[2:3]))
    assert torch.equal(model.reconstruct(x), model.reconstruct(x))


def test_the_same_seed_gives_the_same_decoder_to_all() -> None:
    shapes = {
        kind: [w.shape for name, w in tiny(kind).named_parameters() if name.startswith("decoder")] for kind in KINDS
    }
    assert len({tuple(value) for value in shapes.values()}) == 1
    assert torch.equal(tiny("vae").encoder[0].weight, tiny("vae").encoder[0].weight)  # type: ignore[union-attr,index]
    assert not torch.equal(tiny("vae").encoder[0].weight, tiny("vae", seed=1).encoder[0].weight)  # type: ignore[union-attr,index]


@pytest.fixture(params=[name for name in SETTINGS if isinstance(made(name), LatentVariableModel)])
def latent_model(request: pytest.FixtureRequest) -> LatentVariableModel:
    model = made(request.param)
    assert isinstance(model, LatentVariableModel)
    for weight in model.parameters():  # away from special values, e.g. class means that start at zero
        with drawing_from(generator("noise")):
            weight.data += 0.3 * torch.randn_like(weight)
    return model


def test_prior_posterior_and_likelihood_have_their_shapes(
    latent_model: LatentVariableModel, x: torch.Tensor, y: torch.Tensor
) -> None:
    for labels in (y,) if latent_model.conditional_parts & {"posterior", "likelihood"} else (None, y):
        q, prior = latent_model.posterior(x, labels), latent_model.prior(labels)
        with drawing_from(generator("noise")):
            z, log_q = rsample_and_log_prob(q, (1000,))
        assert z.shape == (1000, B, L)
        assert log_q.shape == prior.log_prob(z).shape == (1000, B)
        assert latent_model.likelihood(z, labels).log_prob(x).shape == (1000, B)
        rate = divergence(q, prior, lambda prior=prior, z=z, log_q=log_q: prior.log_prob(z) - log_q)  # type: ignore[misc]
        assert rate.shape == (B,)
        assert (rate > -0.1).all()  # of samples it may be a little less than 0


def test_conditional_parts_says_what_the_label_changes(
    latent_model: LatentVariableModel, x: torch.Tensor, y: torch.Tensor
) -> None:
    z = torch.randn(B, L, generator=generator("z"))
    other = (y + 1) % C

    def drawn(q: Posterior) -> torch.Tensor:
        with drawing_from(generator("noise")):
            return torch.cat([part.flatten() for part in rsample_and_log_prob(q)])

    def changes(found: Callable[[torch.Tensor], torch.Tensor]) -> bool:
        return not torch.equal(found(y), found(other))

    changed = {
        "prior": changes(lambda y: latent_model.prior(y).log_prob(z)),
        "posterior": changes(lambda y: drawn(latent_model.posterior(x, y))),
        "likelihood": changes(lambda y: latent_model.likelihood(z, y).log_prob(x)),
    }
    assert {name for name, does in changed.items() if does} == latent_model.conditional_parts
    if "posterior" in latent_model.conditional_parts:
        with pytest.raises(TypeError, match="need the label"):
            latent_model.posterior(x)


@pytest.mark.parametrize("architecture", sorted(architectures()))
def test_colour_is_more_pixels(architecture: str) -> None:
    for conditioning in ("class_prior", "concat"):
        settings = {"likelihood": "discretised_logistic", "conditioning": conditioning}
        model = tiny("cvae", architecture=architecture, shape=(3, 8, 8), **settings)
        images = torch.randint(256, (B, 3 * D), generator=generator("colour")) / 255
        assert loss(model, images, torch.arange(B))["loss"].isfinite().all()
        assert model.reconstruct(images, torch.arange(B)).shape == images.shape


def test_codes_without_a_label_are_averaged_over_it(x: torch.Tensor) -> None:
    cvae = made("cvae, concat")
    each = torch.stack([cvae.encode(x, torch.full((B,), label)) for label in range(C)])
    shares = torch.arange(1, C + 1) / 55
    torch.testing.assert_close(cvae.encode(x), (shares[:, None, None] * each).sum(0))


def test_a_reconstruction_without_a_label_uses_the_inferred_one(x: torch.Tensor) -> None:
    cvae = made("cvae, concat")
    assert isinstance(cvae, LatentVariableModel)
    torch.testing.assert_close(cvae.reconstruct(x), cvae.reconstruct(x, inferred_label(cvae, x)))


def test_the_prior_without_the_label_sums_it_out(latent_model: LatentVariableModel) -> None:
    if not latent_model.conditional_parts:
        assert torch.equal(latent_model.prior().sample(torch.Size()).isnan(), torch.zeros(L, dtype=torch.bool))
        return
    z = torch.randn(4, L, generator=generator("z"))
    shares = torch.arange(1, C + 1) / 55
    each = torch.stack([latent_model.prior(torch.full((4,), label)).log_prob(z) for label in range(C)])
    torch.testing.assert_close(latent_model.prior().log_prob(z), torch.logsumexp(each + shares.log()[:, None], 0))


def test_a_dae_is_trained_on_corrupted_inputs_and_scored_on_clean_ones(x: torch.Tensor, y: torch.Tensor) -> None:
    dae = tiny("dae", corruption_rate=1.0)
    blind = dae.reconstruct(torch.zeros_like(x))
    expected = (x - blind).square().sum(-1)
    torch.testing.assert_close(loss(dae, x, y)["loss"], expected)


def test_the_cvae_loss_uses_the_prior_of_the_label(x: torch.Tensor, y: torch.Tensor) -> None:
    cvae = tiny("cvae", beta=2.0)
    assert isinstance(cvae, LatentVariableModel)
    cvae.class_means.data.normal_(generator=generator("means"))
    terms = loss(cvae, x, y)
    q = cvae.posterior(x)
    mean, variance = q.mean, q.variance
    rate = 0.5 * ((mean - cvae.class_means[y]) ** 2 + variance - variance.log() - 1).sum(-1)
    torch.testing.assert_close(terms["rate_nats"], rate)
    torch.testing.assert_close(terms["loss"], terms["distortion_nats"] + 2 * rate)


@pytest.mark.parametrize("settings", [{}, {"conditioning": "class_prior"}, {"conditioning": "concat"}])
def test_beta_warms_up(x: torch.Tensor, y: torch.Tensor, settings: dict[str, str]) -> None:
    model = tiny("cvae" if settings else "vae", beta=3.0, beta_warmup_epochs=2, **settings)
    for epoch, beta in ((1, 1.5), (2, 3.0), (None, 3.0)):
        terms = loss(model, x, y, epoch)
        torch.testing.assert_close(terms["loss"], terms["distortion_nats"] + beta * terms["rate_nats"])


def test_iwae_is_an_objective_of_the_vae(x: torch.Tensor, y: torch.Tensor) -> None:
    vae = tiny("vae")
    iwae = tiny("vae", objective="iwae", samples=500)
    elbo = loss(vae, x, y)["loss"].mean()
    assert loss(iwae, x, y)["loss"].mean() < elbo


def test_whatever_there_is_has_a_block_in_the_settings_and_a_row_in_the_documentation() -> None:
    page, params = (ROOT / "docs" / "models.md").read_text(), read_params(ROOT / "params.yaml", [])
    assert {params.models[name].misfit(params.run(name).network) for name in params.models} == {""}
    keys = ("kind", "prior", "posterior", "objective")
    blocks = [model.model_dump() for model in params.models.values()]
    found = {block[key] for block in blocks for key in keys if key in block}
    _, after_the_settings = page.split("\n## Autoencoders\n")
    named = set(re.findall(r"^\| `(\w+)`", after_the_settings, re.MULTILINE)) - {"prior", "posterior", "objective"}
    assert found == named == {*KINDS, *priors(), *posteriors(), *objectives()}
