"""One contract for every file in models/networks/, and what each of them computes."""

from collections.abc import Iterator

import pytest
import torch
from conftest import network
from torch import Tensor, nn
from torch.nn import functional as F

from aebench.models.networks import Conditional, architectures, decoder, encoder, mlp
from aebench.randomness import drawing_from, generator

L, CLASSES = 3, 4
SHAPES = {"even": (1, 8, 8), "odd": (3, 7, 5), "Fashion-MNIST": (1, 28, 28)}


@pytest.fixture(autouse=True)
def _the_same_weights_each_time() -> Iterator[None]:
    """A small network with others may be dead, and then its outputs do not depend on its inputs."""
    with drawing_from(generator("weights")):
        yield


@pytest.fixture(params=sorted(architectures()))
def architecture(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=SHAPES)
def shape(request: pytest.FixtureRequest) -> tuple[int, int, int]:
    return SHAPES[request.param]


def drawn(*shape: int, key: str = "x") -> Tensor:
    return torch.randn(shape, generator=generator(key))


def size(shape: tuple[int, int, int]) -> int:
    return shape[0] * shape[1] * shape[2]


def test_the_three_networks_are_there() -> None:
    assert {"mlp", "gated_mlp", "conv"} <= set(architectures())


@pytest.mark.parametrize("classes", [0, CLASSES])
def test_images_become_outputs_and_codes_become_pixels(
    architecture: str, shape: tuple[int, int, int], classes: int
) -> None:
    config = network(architecture, latent_dim=L)
    for made, inputs, outputs in (
        (encoder(config, shape, 5), size(shape), 5),
        (decoder(config, shape), L, size(shape)),
        (decoder(config, shape, 2), L, 2 * size(shape)),
    ):
        made = Conditional(made, classes) if classes else made
        x = drawn(2, 6, inputs)
        labels = (torch.arange(6) % CLASSES,) if classes else ()
        found = made(x, *labels)
        assert found.shape == (2, 6, outputs)
        for one in (0, 1):  # however many batch dimensions there are, and whatever else is in the batch
            torch.testing.assert_close(made(x[one], *labels), found[one])
        torch.testing.assert_close(made(x[:, 2:3], *(y[2:3] for y in labels)), found[:, 2:3])
        assert made(x[:, :0], *(y[:0] for y in labels)).shape == (2, 0, outputs)
        if classes:
            assert not torch.allclose(made(x, (labels[0] + 1) % CLASSES), found)
            every = made(x.unsqueeze(-2), torch.arange(CLASSES))
            assert every.shape == (2, 6, CLASSES, outputs)
            torch.testing.assert_close(every[:, torch.arange(6), labels[0]], found)


def test_nothing_is_drawn_or_kept_in_training(architecture: str) -> None:
    config = network(architecture, latent_dim=L)
    for made, inputs in ((encoder(config, (1, 8, 8), 5), 64), (decoder(config, (1, 8, 8)), L)):
        x, before = drawn(6, inputs), {name: value.clone() for name, value in made.state_dict().items()}
        state = torch.get_rng_state()
        assert torch.equal(made.train()(x), made.eval()(x))
        assert torch.equal(torch.get_rng_state(), state)
        assert all(torch.equal(before[name], value) for name, value in made.state_dict().items())


def test_weights_come_from_the_global_generator(architecture: str) -> None:
    def weights(seed: int) -> list[Tensor]:
        with drawing_from(generator(seed, "weights")):
            return list(Conditional(decoder(network(architecture), (1, 8, 8)), CLASSES).parameters())

    first, again, other = weights(0), weights(0), weights(1)
    assert all(map(torch.equal, first, again))
    for one, another in zip(first, other, strict=True):
        constant = bool((one == one.flatten()[0]).all())  # a norm begins at 1
        assert constant or not torch.equal(one, another)
    assert not all(map(torch.equal, first, other))


def widths(made: nn.Module) -> list[tuple[int, int]]:
    return [(layer.in_features, layer.out_features) for layer in made.modules() if isinstance(layer, nn.Linear)]


def test_an_mlps_encoder_and_decoder_mirror_each_other() -> None:
    config = network("mlp", latent_dim=2, hidden=[8, 6])
    assert widths(encoder(config, (1, 3, 4), 4)) == [(12, 8), (8, 6), (6, 4)]
    assert widths(decoder(config, (1, 3, 4))) == [(2, 6), (6, 8), (8, 12)]
    assert widths(encoder(network("mlp", hidden=[]), (1, 3, 4), 4)) == [(12, 4)]


def test_a_gated_layer_is_h_times_the_sigmoid_of_g() -> None:
    made = encoder(network("gated_mlp", hidden=[6]), (1, 3, 4), 5)
    first, _, last = made
    x = drawn(7, 12)
    h, g = x @ first.weight[:6].T + first.bias[:6], x @ first.weight[6:].T + first.bias[6:]
    torch.testing.assert_close(made(x), (h / (1 + torch.exp(-g))) @ last.weight.T + last.bias)


@pytest.mark.parametrize(("size", "maps"), [(28, [14, 7, 3, 1]), (8, [4, 2, 1]), (5, [2, 1])])
def test_convolutions_halve_the_image_and_transposed_ones_double_it_again(size: int, maps: list[int]) -> None:
    channels = [3] * len(maps)
    config = network("conv", channels=channels, hidden=[])
    found = [
        layer.out_channels for layer in encoder(config, (1, size, size), 5).modules() if isinstance(layer, nn.Conv2d)
    ]
    assert found == channels
    assert widths(encoder(config, (1, size, size), 5)) == [(3 * maps[-1] ** 2, 5)]
    assert decoder(config, (1, size, size))(drawn(2, 3)).shape == (2, size**2)
    assert config.misfit((1, size, size)) == ""
    more = network("conv", channels=[*channels, 3])
    words = f"channels: found a list of {len(maps) + 1} for images of {size} × {size} pixels, allowed: at most"
    assert more.misfit((1, size, size)).startswith(words)


def test_a_convolution_sees_what_is_near() -> None:
    """The first feature map of a conv encoder is that of `F.conv2d`; a pixel changes it in its neighbourhood alone."""
    made = encoder(network("conv", channels=[3]), (2, 8, 8), 5)
    x = drawn(1, 128)
    first = made[1](made[0](x))
    torch.testing.assert_close(first, F.conv2d(x.view(1, 2, 8, 8), made[1].weight, made[1].bias, stride=2, padding=1))
    x[0, 0] += 1  # the pixel in the corner
    changed = (made[1](made[0](x)) - first).abs().amax(1)[0] > 0
    assert changed.nonzero().tolist() == [[0, 0]]


@pytest.mark.parametrize("shape", [(300,), (300, 1), (2, 150)])
@pytest.mark.parametrize("silent", [0, 5, 19, 20])
def test_a_readout_leaves_out_units_that_are_zero_in_all_rows_and_nothing_else(
    shape: tuple[int, ...], silent: int
) -> None:
    with drawing_from(generator("weights")):
        readout = mlp.Readout(20, 7)
    hidden = torch.randn(*shape, 20, generator=generator("hidden")).relu()
    hidden[..., torch.randperm(20, generator=generator("silent"))[:silent]] = 0
    if silent == 19:  # one unit speaks, in one row
        hidden *= 0
        hidden.view(-1, 20)[17, 3] = 2.0
    expected = F.linear(hidden, readout.weight, readout.bias)
    with torch.no_grad():
        torch.testing.assert_close(readout(hidden), expected)
    found = readout(hidden.requires_grad_())
    torch.testing.assert_close(found, expected)
    found.sum().backward()
    assert hidden.grad is not None
    assert hidden.grad.count_nonzero() == hidden.numel()  # silent units learn too


@pytest.mark.parametrize("hidden", [[], [8], [8, 6]])
def test_a_label_beside_a_vector_is_its_one_hot_code(hidden: list[int]) -> None:
    inputs, classes = 5, 3
    with drawing_from(generator("weights")):
        made = Conditional(encoder(network("mlp", hidden=hidden), (1, 1, inputs), 4), classes)
        concatenated = encoder(network("mlp", hidden=hidden), (1, 1, inputs + classes), 4)
    weights = {name.removeprefix("network."): weight for name, weight in made.state_dict().items()}
    columns = weights.pop("of_class")
    weights["0.weight"] = torch.cat([weights["0.weight"], columns.T], dim=1)
    concatenated.load_state_dict(weights)
    x, y = torch.randn(7, inputs, generator=generator("x")), torch.tensor([0, 2, 1, 1, 0, 2, 2])
    torch.testing.assert_close(made(x, y), concatenated(torch.cat([x, F.one_hot(y, classes).float()], dim=1)))


def test_a_label_beside_an_image_is_a_plane_for_each_class() -> None:
    made = Conditional(encoder(network("conv", channels=[3]), (2, 8, 8), 5), CLASSES)
    x, y = drawn(6, 128), torch.arange(6) % CLASSES
    unflatten, first, *others = made.network
    planes = F.one_hot(y, CLASSES).float()[..., None, None].expand(-1, -1, 4, 4)
    of_planes = F.conv2d(planes, made.of_class.T[..., None, None])
    torch.testing.assert_close(made(x, y), nn.Sequential(*others)(first(unflatten(x)) + of_planes))


def test_the_weights_of_the_labels_are_drawn_like_those_of_the_inputs() -> None:
    with drawing_from(generator("weights")):
        made = Conditional(encoder(network("mlp", hidden=[200]), (1, 10, 10), 4), 300)
    assert made.of_class.abs().max().item() == pytest.approx(400**-0.5, rel=0.01)
    assert made.of_class.std().item() == pytest.approx(400**-0.5 / 3**0.5, rel=0.02)


def test_a_network_that_a_label_cannot_enter_is_refused() -> None:
    with pytest.raises(TypeError, match=r"a label enters by an nn\.Linear or an nn\.Conv2d, found LayerNorm at first"):
        Conditional(nn.Sequential(nn.LayerNorm(5), nn.Linear(5, 4)), CLASSES)
