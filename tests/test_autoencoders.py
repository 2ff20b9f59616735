"""What the losses of the deterministic autoencoders are, and what they give, by other means."""

from typing import Any

import numpy as np
import pytest
import torch
from conftest import block, network, tiny
from torch import Tensor
from torch.autograd.functional import jacobian

from aebench import variants
from aebench.config import Evaluation
from aebench.data.datasets import Splits
from aebench.errors import ConfigError
from aebench.evaluation.context import Context
from aebench.evaluation.metrics import active_units
from aebench.models.autoencoder import Autoencoder, ImageSpec
from aebench.models.divergences import mmd
from aebench.randomness import Streams, generator
from aebench.variants.sparse_ae import largest
from aebench.variants.vq_vae import VQVAE

B, D = 5, 64
K_SPARSE: dict[str, Any] = {"sparsity": "k_sparse", "l1_weight": None, "k": 2}


@pytest.fixture
def x() -> Tensor:
    return torch.rand(B, D, generator=generator("x"))


def terms(model: Autoencoder, x: Tensor) -> dict[str, Tensor]:
    return model.loss(x, torch.zeros(len(x), dtype=torch.int64), model.noise(torch.arange(len(x)), Streams(0)), epoch=1)


def error(model: Autoencoder, x: Tensor, z: Tensor) -> Tensor:
    return (x - model.decode(z)).square().sum(-1)


def test_an_l1_penalty_is_the_sum_of_the_units(x: Tensor) -> None:
    model = tiny("sparse_ae", l1_weight=0.7)
    codes = model.encode(x)
    torch.testing.assert_close(terms(model, x)["loss"], error(model, x, codes) + 0.7 * codes.abs().sum(-1))


def test_the_largest_units_are_kept_and_no_more() -> None:
    codes = torch.randn(50, 9, generator=generator("codes"))
    codes[:10] = codes[:10].round()  # with equal units
    kept = largest(codes, 4).numpy()
    order = np.sort(codes.numpy(), axis=-1)
    for before, after, (*_, fourth, _, _, _) in zip(codes.numpy(), kept, order, strict=True):
        stays = after != 0
        assert (after[stays] == before[stays]).all()
        assert stays.sum() <= 4
        assert set(before[before > fourth]) - {0.0} <= set(after)
        assert not (before[stays] < fourth).any()
    assert ((kept != 0).sum(-1)[10:] == 4).all()


def test_a_k_sparse_code_has_more_units_after_training_than_in_it(x: Tensor) -> None:
    model = tiny("sparse_ae", **K_SPARSE, alpha=1.5)
    whole = tiny("sparse_ae", l1_weight=0.0).encode(x)  # the same weights
    assert ((model.encode(x) != 0).sum(-1) == 3).all()
    assert torch.equal(model.encode(x), whole)
    found = terms(model, x)
    torch.testing.assert_close(found["squared_error"], error(model, x, largest(whole, 2)))
    assert torch.equal(found["loss"], found["squared_error"])
    assert ((tiny("sparse_ae", **K_SPARSE, alpha=1.4).encode(x) != 0).sum(-1) == 2).all()


def test_the_units_after_training_are_counted_exactly(x: Tensor) -> None:
    """In floats 1.4 × 45 is 62.999…."""
    config = block("sparse_ae", sparsity="k_sparse", l1_weight=None, k=45, alpha=1.4)
    model = variants.build(config, network(latent_dim=64), ImageSpec((1, 8, 8), (1.0,)))
    assert ((model.encode(x) != 0).sum(-1) == 63).all()


def test_a_contractive_autoencoder_pays_for_its_encoders_jacobian(x: Tensor) -> None:
    model = tiny("contractive_ae", contraction=3.0)
    norms = torch.stack([jacobian(model.encode, image[None]).square().sum() for image in x])  # type: ignore[no-untyped-call]
    torch.testing.assert_close(terms(model, x)["loss"], error(model, x, model.encode(x)) + 3 * norms)


@pytest.mark.parametrize("regulariser", ["l2", "gradient_penalty"])
def test_a_regularised_autoencoder_pays_for_code_and_decoder(x: Tensor, regulariser: str) -> None:
    model = tiny("rae", code_weight=0.3, regulariser=regulariser, regulariser_weight=2.0)
    z = model.encode(x)
    if regulariser == "l2":
        weights = torch.cat([weight.flatten() for weight in model.decoder.parameters()])  # type: ignore[union-attr]
        penalty = (weights @ weights).expand(B)
    else:
        penalty = torch.stack([jacobian(model.decode, code[None]).square().sum() for code in z]) / 2  # type: ignore[no-untyped-call]
    expected = error(model, x, z) + 0.3 * z.square().sum(-1) / 2 + 2 * penalty
    torch.testing.assert_close(terms(model, x)["loss"], expected)


def test_a_wasserstein_autoencoder_compares_its_codes_with_the_prior(x: Tensor) -> None:
    model = tiny("wae_mmd", mmd_weight=5.0)
    codes, samples = model.encode(x), torch.randn(B, 3, generator=Streams(0)["noise"])
    torch.testing.assert_close(terms(model, x)["loss"], error(model, x, codes) + 5 * mmd(codes, samples))
    assert terms(model, x[:1])["loss"].isfinite().all()  # as the last batch of an epoch may be


@pytest.fixture
def vq_vae() -> VQVAE:
    model = tiny("vq_vae", codebook=6, groups=3, commitment=0.5)
    assert isinstance(model, VQVAE)
    return model


def test_a_quantised_code_is_made_of_the_nearest_entries(x: Tensor) -> None:
    spec = ImageSpec((1, 8, 8), (0.5, 0.5))
    config = variants.configuration({"kind": "vq_vae", "codebook": 6, "groups": 2})
    model = variants.build(config, network(latent_dim=4), spec)
    assert isinstance(model, VQVAE)
    z = model.encoder(x)
    distances = (z.view(B, 2, 1, 2) - model.codebook).norm(dim=-1)
    expected = model.codebook[distances.argmin(-1)].view(B, 4)
    assert torch.equal(model.encode(x), expected)
    assert torch.equal(model.encode(x[:1]), expected[:1])


def test_the_gradient_goes_straight_through_the_codebook(vq_vae: VQVAE, x: Tensor) -> None:
    """The three terms' gradients with respect to z and to the codebook, from those that each may have."""
    z, e = vq_vae.encoder(x).detach(), vq_vae.encode(x).detach().requires_grad_()
    (at_e,) = torch.autograd.grad(error(vq_vae, x, e).sum(), e)
    at_z = at_e + 2 * 0.5 * (z - e)  # that of the error as if z were e, and that of the commitment
    weights = list(vq_vae.encoder.parameters())
    expected = torch.autograd.grad(vq_vae.encoder(x), weights, at_z.detach())
    loss = terms(vq_vae, x)["loss"].sum()
    *found, at_codebook = torch.autograd.grad(loss, [*weights, vq_vae.codebook])
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    chosen = (z.view(-1, 1, 1) - vq_vae.codebook).abs().argmin(1)[:, 0]
    pull = torch.zeros(6).index_add(0, chosen, 2 * (e - z).detach().flatten())
    torch.testing.assert_close(at_codebook[:, 0], pull)


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("vq_vae", {"groups": 2}, "groups: found 2 with a latent_dim of 3, allowed: a divisor of it"),
        ("sparse_ae", {**K_SPARSE, "k": 4}, "k: found 4 with a latent_dim of 3, allowed: at most 3"),
    ],
)
def test_what_does_not_fit_the_code_is_refused(kind: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tiny(kind, **settings)


@pytest.mark.parametrize(
    ("kind", "lacking", "collapse"),
    [
        ("rae", "p(z)", "has no prior to which a latent dimension could collapse"),
        ("wae_mmd", "p(x|z)", "has no q(z|x) that could collapse to p(z)"),
        ("vq_vae", "p(x|z)", "has no q(z|x) that could collapse to p(z)"),
    ],
)
def test_why_there_is_no_likelihood_is_said_of_each(kind: str, lacking: str, collapse: str, digits: Splits) -> None:
    evaluation = Evaluation(corruption="masking", corruption_rate=0.3, importance_samples=20)
    context = Context(tiny(kind), digits, evaluation, 0, lambda *_: None)
    assert context.no_prior == f"has no {lacking}, hence neither a likelihood nor a bound on one"
    assert active_units.not_defined(context) == {"active_units": collapse}
