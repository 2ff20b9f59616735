import pytest
import torch

from aebench.config import Corruption
from aebench.evaluation.protocol import corrupted
from aebench.models.corruption import apply, draw
from aebench.randomness import generator


def corrupt(x: torch.Tensor, corruption: Corruption, noise: torch.Generator) -> torch.Tensor:
    return apply(x, corruption, draw(corruption, x.shape, noise))


@pytest.mark.parametrize(("rate", "pixels", "masked"), [(0.3, 784, 235), (0.29, 100, 29), (0.0, 10, 0), (1.0, 10, 10)])
def test_masking_zeroes_exactly_its_share_of_each_image(rate: float, pixels: int, masked: int) -> None:
    x = torch.rand(50, pixels, generator=generator("x")) + 1
    spoilt = corrupt(x, Corruption(corruption="masking", corruption_rate=rate), generator("mask"))
    assert ((spoilt == 0).sum(-1) == masked).all()
    assert torch.equal(spoilt[spoilt != 0], x[spoilt != 0])


def test_equal_random_numbers_do_not_mask_more_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "random_", lambda numbers, **_: numbers.fill_(7))
    spoilt = corrupt(torch.ones(5, 10), Corruption(corruption="masking", corruption_rate=0.3), generator("mask"))
    assert ((spoilt == 0).sum(-1) == 3).all()


def test_masking_treats_every_pixel_alike_and_every_image_anew() -> None:
    spoilt = corrupt(torch.ones(20000, 10), Corruption(corruption="masking", corruption_rate=0.3), generator("mask"))
    share = (spoilt == 0).float().mean(0)
    assert (share - 0.3).abs().max() < 4 * (0.21 / 20000) ** 0.5
    assert len(spoilt.unique(dim=0)) == 120  # all ways to choose 3 of 10


def test_gaussian_noise_has_the_scale_that_was_asked_for() -> None:
    x = torch.full((2000, 50), 0.5)
    noise = corrupt(x, Corruption(corruption="gaussian", corruption_rate=0.2), generator("noise")) - x
    assert noise.std().item() == pytest.approx(0.2, rel=0.02)
    assert noise.mean().item() == pytest.approx(0, abs=0.003)


@pytest.mark.parametrize(("rate", "pixels", "spoilt"), [(0.3, 784, 235), (0.29, 100, 29), (0.0, 10, 0), (1.0, 10, 10)])
def test_salt_and_pepper_is_exactly_its_share_of_each_image(rate: float, pixels: int, spoilt: int) -> None:
    x = torch.rand(50, pixels, generator=generator("x")) / 2 + 0.25
    found = corrupt(x, Corruption(corruption="salt_and_pepper", corruption_rate=rate), generator("mask"))
    changed = found != x
    assert (changed.sum(-1) == spoilt).all()
    assert torch.equal(changed, (found == 0) | (found == 1))


def test_salt_and_pepper_is_laid_where_a_mask_is_by_a_fair_coin() -> None:
    x = torch.full((20000, 10), 0.5)
    found = corrupt(x, Corruption(corruption="salt_and_pepper", corruption_rate=0.3), generator("mask"))
    masked = corrupt(x, Corruption(corruption="masking", corruption_rate=0.3), generator("mask"))
    assert torch.equal(found != 0.5, masked == 0)
    share = (found == 1).float().mean(0)
    assert (share - 0.15).abs().max() < 4 * (0.15 * 0.85 / 20000) ** 0.5
    assert len(found.unique(dim=0)) == 120 * 8  # three of ten pixels, and each of two values


def test_test_images_are_spoilt_with_salt_and_pepper_each_by_itself() -> None:
    x, corruption = torch.full((4, 20), 0.5), Corruption(corruption="salt_and_pepper", corruption_rate=0.4)
    together = corrupted(x, corruption, first=7)
    assert ((together != 0.5).sum(-1) == 8).all()
    assert torch.equal(corrupted(x[2:], corruption, first=9), together[2:])


def test_what_is_drawn_for_a_mask_and_for_noise_stays_what_it_was() -> None:
    mask = draw(Corruption(corruption="masking", corruption_rate=0.5), (2, 6), generator("drawn"))
    noise = draw(Corruption(corruption="gaussian", corruption_rate=0.5), (1, 3), generator("drawn"))
    assert mask.int().tolist() == [[0, 0, 1, 1, 1, 0], [1, 1, 0, 0, 1, 0]]
    assert noise.tolist() == [[-0.9840913414955139, 0.6744169592857361, -1.623755693435669]]
