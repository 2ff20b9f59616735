"""The exemplar prior: against torch's mixture, one image after the other, and from the first step to the loaded run."""

import math
from pathlib import Path

import pytest
import torch
from conftest import ROOT, tiny
from ruamel.yaml import YAML
from test_parts import normal
from test_train import TWO_EPOCHS, config, silent
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from aebench import load_run, yaml
from aebench.data.datasets import Split, Splits
from aebench.errors import ConfigError
from aebench.evaluation.proposals import laplace
from aebench.models.autoencoder import Noise
from aebench.models.latents import EqualMixture, NormalMixture
from aebench.models.priors.exemplar import ExemplarPrior
from aebench.randomness import Streams, drawing_from, generator
from aebench.training.run import train_run, train_runs
from aebench.training.settings import read_params
from aebench.training.train import train, validate
from aebench.variants.hvae import HVAE
from aebench.variants.vae import VAE

B, L, N = 6, 3, 8
SMALL = {"prior": "exemplar", "exemplars": N, "exemplars_a_step": 4}


def equal_mixture(components: int) -> tuple[EqualMixture, Tensor, float]:
    means, scale = 2 * normal(components, L), 0.7
    return EqualMixture(means, 2 * torch.tensor(scale).double().log()), means, scale


def model(**changes: object) -> VAE:
    """In double precision; its codes lie apart, so that it matters which exemplars there are."""
    made = tiny("vae", **{**SMALL, **changes}).double()  # type: ignore[arg-type]
    assert isinstance(made, VAE)
    with torch.no_grad():
        made.encoder[-1].weight *= 20  # type: ignore[index]
    return made


def exemplars(made: object) -> ExemplarPrior:
    assert isinstance(made, VAE)
    assert isinstance(made.to_prior, ExemplarPrior)
    return made.to_prior


def codes(made: VAE) -> Tensor:
    """μ(x_n) of its exemplars, `[N, L]`."""
    return made.encode(exemplars(made).images.double() / 255)


# The density


@pytest.mark.parametrize("components", [2, 1000, 2001])
def test_the_density_of_equal_gaussians_is_torchs(components: int) -> None:
    found, means, scale = equal_mixture(components)
    general = MixtureSameFamily(Categorical(torch.ones(components).double()), Independent(Normal(means, scale), 1))
    for z in (normal(7, 2, L, key="z"), 50 + normal(7, 2, L, key="far")):
        torch.testing.assert_close(found.log_prob(z), general.log_prob(z))


def test_samples_of_equal_gaussians_have_their_moments() -> None:
    found, means, scale = equal_mixture(5)
    with drawing_from(generator("samples")):
        drawn = found.sample(torch.Size((200_000,)))
    torch.testing.assert_close(drawn.mean(0), means.mean(0), atol=0.02, rtol=0)
    torch.testing.assert_close(drawn.var(0), means.var(0, correction=0) + scale**2, atol=0, rtol=0.02)


def test_their_curvature_is_that_of_a_mixture_whose_scales_are_all_the_same() -> None:
    found, means, scale = equal_mixture(5)
    general = NormalMixture(means, torch.full_like(means, scale), torch.zeros(5))
    z = normal(4, L, key="z")
    torch.testing.assert_close(laplace._curvature(found, z), laplace._curvature(general, z))


@pytest.mark.parametrize("components", [4, 1001, 2001])
def test_what_is_left_out_has_no_part_in_the_density_and_its_slope(components: int) -> None:
    _, means, scale = equal_mixture(components)
    left_out = torch.zeros(3, components, dtype=torch.bool)
    left_out[0, 1] = left_out[1, -1] = True  # the last of the last block; the third z leaves nothing out
    z = normal(2, 3, L, key="z").requires_grad_()
    found = EqualMixture(means, 2 * torch.tensor(scale).double().log(), left_out).log_prob(z)
    each = Independent(Normal(means, scale), 1).log_prob(z.unsqueeze(-2))
    for image, others in enumerate(~left_out):
        expected = each[:, image, others].logsumexp(-1) - math.log(others.sum())
        torch.testing.assert_close(found[:, image], expected)
    (slope,) = torch.autograd.grad(found.sum(), z, retain_graph=True)
    (of_all,) = torch.autograd.grad((each.logsumexp(-1))[:, 2].sum(), z)
    assert slope.isfinite().all()
    torch.testing.assert_close(slope[:, 2], of_all[:, 2])


def test_the_prior_is_a_mixture_around_the_codes_of_its_exemplars() -> None:
    made = model()
    with torch.no_grad():
        exemplars(made).log_variance.fill_(-0.8)
    components = Independent(Normal(codes(made), math.exp(-0.4)), 1)
    general = MixtureSameFamily(Categorical(torch.ones(N).double()), components)
    z = normal(7, L, key="z")
    torch.testing.assert_close(made.prior().log_prob(z), general.log_prob(z))


# In training


def test_in_training_the_prior_of_an_image_leaves_the_image_out() -> None:
    made = model(exemplars_a_step=N)
    own = torch.tensor([2, 5])
    places = exemplars(made).places
    index = torch.cat([places[own], torch.tensor([int(places.max()) + 1])])  # the third is not among the exemplars
    _, *of_prior = made.noise(index, Streams(0))
    z = codes(made)[[2, 5, 0]].detach()  # where the image's own term would outweigh all else
    found = exemplars(made).of_batch(made.posterior, *of_prior).log_prob(z)
    terms = Independent(Normal(codes(made), 1.0), 1).log_prob(z[:, None])
    for image, left_out in enumerate((2, 5, None)):
        others = [terms[image, n] for n in range(N) if n != left_out]
        torch.testing.assert_close(found[image], torch.stack(others).logsumexp(0) - math.log(len(others)))
    assert (found[:2] < made.prior().log_prob(z)[:2]).all()


def test_two_levels_leave_an_image_out_of_its_own_prior_too() -> None:
    """The rate of each image is that under the other exemplars alone."""
    made = tiny("hvae", prior="exemplar", exemplars=N, exemplars_a_step=N).double()
    assert isinstance(made, HVAE)
    prior = made.to_prior
    assert isinstance(prior, ExemplarPrior)
    x, index = prior.images[:3].double() / 255, prior.places[:3]
    noise = made.noise(index, Streams(0))
    terms = made.loss(x, torch.zeros(3, dtype=torch.long), (noise[0].double(), *noise[1:]), epoch=None)
    z, log_q = made.posterior(x).of(noise[0].double())
    lower, upper = z.split([made.lower, made.upper], dim=-1)
    means = made.upper_posterior(prior.images.double() / 255).mean
    of_each = Independent(Normal(means, (0.5 * prior.log_variance).exp()), 1).log_prob(upper[:, None])
    kept = ~torch.eye(3, N, dtype=torch.bool)
    of_upper = of_each[kept].view(3, N - 1).logsumexp(-1) - math.log(N - 1)
    torch.testing.assert_close(terms["rate_nats"], log_q - of_upper - made.lower_prior(upper).log_prob(lower))


def test_the_loss_of_some_exemplars_is_in_expectation_no_smaller_than_that_of_all() -> None:
    made, every = model(), model(exemplars_a_step=N)
    x, y = torch.rand(B, 64, generator=generator("x")).double(), torch.arange(B)
    index = torch.cat([exemplars(made).places[:2], 100 + torch.arange(4)])
    epsilon = torch.randn(B, L, generator=generator("epsilon")).double()
    streams = Streams(1)
    losses, counts = [], torch.zeros(N)
    for _ in range(600):
        _, drawn, _ = made.noise(index, streams)
        assert len(drawn.unique()) == len(drawn) == 4
        counts += torch.bincount(drawn, minlength=N)
        losses.append(made.loss(x, y, (epsilon, drawn, index), epoch=1)["loss"])
    assert ((counts / 600 - 0.5).abs() < 0.08).all()
    _, *of_prior = every.noise(index, streams)
    of_all = every.loss(x, y, (epsilon, *of_prior), epoch=1)["loss"]
    of_some = torch.stack(losses)
    error = of_some.std(0) / math.sqrt(len(losses))
    assert (of_some.mean(0) > of_all + 3 * error).all()
    # It is the mean of densities that is without bias, whatever the image leaves out.
    density = (of_all - of_some).exp()
    assert ((density.mean(0) - 1).abs() < 4 * density.std(0) / math.sqrt(len(losses))).all()


def test_images_that_are_not_of_the_training_split_have_all_exemplars() -> None:
    made = model()
    elsewhere = torch.full((B,), -1)
    (epsilon,) = made.noise(elsewhere, Streams(0))
    x, y = torch.rand(B, 64, generator=generator("x")).double(), torch.arange(B)
    found = made.loss(x, y, (epsilon.double(),), epoch=None)
    q = made.posterior(x)
    assert isinstance(q, Independent)
    z = q.base_dist.loc + q.base_dist.scale * epsilon
    torch.testing.assert_close(found["rate_nats"], q.log_prob(z) - made.prior().log_prob(z))


@pytest.mark.parametrize("dynamic", [False, True])
def test_a_run_has_training_images_for_exemplars_and_knows_which_its_batches_have(
    dynamic: bool, digits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, data = tiny("vae", **SMALL), Split(digits.train.images, digits.train.labels, dynamic)  # type: ignore[arg-type]
    inner, in_training, held_out = VAE.loss, [], []

    def spy(self: VAE, x: Tensor, y: Tensor, noise: Noise, *, epoch: int | None) -> dict[str, Tensor]:
        (in_training if self.training else held_out).append((x, y, noise))
        return inner(self, x, y, noise, epoch=epoch)

    with monkeypatch.context() as patch:
        patch.setattr(VAE, "loss", spy)
        train(made, data, digits.validation, TWO_EPOCHS, 3)
    places = exemplars(made).places
    assert len(places.unique()) == N
    assert torch.equal(exemplars(made).images, digits.train.images[places])  # grey in either case
    seen = torch.cat([noise[2] for _, _, noise in in_training])
    assert seen.bincount().tolist() == [2] * len(data)
    for x, y, (_, _, index) in in_training:
        assert torch.equal(y, data.labels[index])
        assert dynamic or torch.equal(x, data.pixels(index))
    assert {len(noise) for _, _, noise in held_out} == {1}


def test_no_other_draw_depends_on_the_exemplars() -> None:
    found = [tiny("vae", **{**SMALL, **change}) for change in ({}, {"exemplars": 9}, {"exemplars_a_step": 2})]  # type: ignore[arg-type]
    drawn = []
    for made in (*found, tiny("vae")):
        streams = Streams(0)
        made.before_training(torch.zeros(20, 64, dtype=torch.uint8), streams)
        drawn.append([made.noise(torch.arange(B), streams)[0] for _ in range(3)])
    for others in drawn[1:]:
        assert all(map(torch.equal, drawn[0], others))


# A run


def test_a_loaded_run_has_the_prior_that_it_was_trained_with_and_each_seed_its_own(
    digits_file: Path, digits: Splits, tmp_path: Path
) -> None:
    own = config("vae", **SMALL)
    for name, seed in (("0", 0), ("again", 0), ("1", 1)):
        (run,) = train_runs(own, "digits", [seed], digits_file, silent, stacked=True)
        run.write(tmp_path / name)
    first, again, other = (load_run(tmp_path / name) for name in ("0", "again", "1"))
    trained = tiny("vae", **SMALL)  # type: ignore[arg-type]
    history = train(trained, digits.train, digits.validation, own.training, 0)
    assert torch.equal(exemplars(first).images, exemplars(trained).images)
    assert torch.equal(exemplars(first).images, exemplars(again).images)
    assert set(exemplars(first).places.tolist()) != set(exemplars(other).places.tolist())
    last = history.epochs[history.selected_epoch - 1]["validation_loss"]
    assert validate(first, digits.validation, 0)["loss"] == pytest.approx(last, rel=1e-4)


def test_a_run_that_fails_at_once_has_its_exemplars_all_the_same(digits: Splits) -> None:
    made = tiny("vae", **SMALL)  # type: ignore[arg-type]
    next(made.parameters()).data[0, 0] = math.nan
    assert train(made, digits.train, digits.validation, TWO_EPOCHS, 0).failed
    found = exemplars(made)
    assert torch.equal(found.images, digits.train.images[found.places])


def test_more_exemplars_than_training_images_are_one_line(
    digits_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aebench.training.run.build", None)  # before there is a model, whose memory may not suffice
    own = config("vae", prior="exemplar", exemplars=1294, exemplars_a_step=10)
    message = "^models.mine.exemplars: found 1294, allowed: at most 1293, the number of training images$"
    with pytest.raises(ConfigError, match=message):
        train_run(own, "digits", 0, digits_file, silent)
    with pytest.raises(ConfigError, match=message):
        train_runs(own, "digits", [0, 1], digits_file, silent, stacked=True)
    # Where the number of images is known, before anything runs.
    params = yaml.read(ROOT / "params.yaml")
    assert isinstance(params, dict)
    params |= {"datasets": ["digits"], "variants": ["hvae_exemplar"]}
    file = tmp_path / "params.yaml"
    with file.open("w") as stream:
        YAML().dump(params, stream)
    message = r"^params.yaml: models\.hvae_exemplar\.exemplars: found 5000, allowed: at most 1293, .* images of digits$"
    with pytest.raises(ConfigError, match=message):
        read_params(file, [])
