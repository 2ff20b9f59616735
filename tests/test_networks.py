import pytest
import torch
from torch.nn import functional as F

from aebench.models.networks import Conditional, Readout, decoder, encoder
from aebench.randomness import drawing_from, generator


def test_encoder_and_decoder_mirror_each_other() -> None:
    def widths(network: torch.nn.Sequential) -> list[tuple[int, int]]:
        return [(layer.in_features, layer.out_features) for layer in network if isinstance(layer, torch.nn.Linear)]

    assert widths(encoder(12, [8, 6], 4)) == [(12, 8), (8, 6), (6, 4)]
    assert widths(decoder(2, [8, 6], 12)) == [(2, 6), (6, 8), (8, 12)]
    assert widths(encoder(12, [], 4)) == [(12, 4)]


@pytest.mark.parametrize("shape", [(300,), (300, 1), (2, 150)])
@pytest.mark.parametrize("silent", [0, 5, 19, 20])
def test_a_readout_leaves_out_units_that_are_zero_in_all_rows_and_nothing_else(
    shape: tuple[int, ...], silent: int
) -> None:
    with drawing_from(generator("weights")):
        readout = Readout(20, 7)
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
def test_a_conditional_network_is_one_that_takes_the_one_hot_code_beside_its_input(hidden: list[int]) -> None:
    inputs, classes = 5, 3
    with drawing_from(generator("weights")):
        network = Conditional(encoder(inputs, hidden, 4), classes)
        concatenated = encoder(inputs + classes, hidden, 4)
    weights = {name.removeprefix("network."): weight for name, weight in network.state_dict().items()}
    columns = weights.pop("of_class")
    weights["0.weight"] = torch.cat([weights["0.weight"], columns.T], dim=1)
    concatenated.load_state_dict(weights)
    x, y = torch.randn(7, inputs, generator=generator("x")), torch.tensor([0, 2, 1, 1, 0, 2, 2])
    torch.testing.assert_close(network(x, y), concatenated(torch.cat([x, F.one_hot(y, classes).float()], dim=1)))
    # For every class at once the input is multiplied once.
    every = network(x.unsqueeze(1), torch.arange(classes))
    assert every.shape == (7, classes, 4)
    torch.testing.assert_close(every[range(7), y], network(x, y))


def test_the_weights_of_the_labels_are_drawn_like_those_of_the_inputs() -> None:
    with drawing_from(generator("weights")):
        network = Conditional(encoder(100, [200], 4), 300)
    assert network.of_class.abs().max().item() == pytest.approx(400**-0.5, rel=0.01)
    assert network.of_class.std().item() == pytest.approx(400**-0.5 / 3**0.5, rel=0.02)
