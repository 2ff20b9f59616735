import torch

from aebench.randomness import Streams, drawing_from, generator


def test_equal_keys_draw_alike_and_other_keys_do_not() -> None:
    assert torch.equal(torch.rand(5, generator=generator(1, "a")), torch.rand(5, generator=generator(1, "a")))
    for other in [(2, "a"), (1, "b"), (1, "a", 0), ("1", "a")]:
        assert not torch.equal(torch.rand(5, generator=generator(1, "a")), torch.rand(5, generator=generator(*other)))


def test_a_purpose_is_not_disturbed_by_another() -> None:
    alone, both = Streams(3), Streams(3)
    torch.rand(100, generator=both["noise"])
    assert torch.equal(torch.rand(5, generator=alone["order"]), torch.rand(5, generator=both["order"]))


def test_drawing_from_continues_its_generator_and_leaves_the_global_one_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(2)
    torch.manual_seed(7)
    source = generator("source")
    with drawing_from(source):
        first = torch.rand(3)
    with drawing_from(source):
        second = torch.rand(3)
    assert torch.equal(torch.rand(2), expected)
    assert torch.equal(torch.cat([first, second]), torch.rand(6, generator=generator("source")))
