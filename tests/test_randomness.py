import pytest
import torch

from aebench.randomness import Streams, drawing_from, generator, seeding


def test_equal_keys_draw_alike_and_other_keys_do_not() -> None:
    assert torch.equal(torch.rand(5, generator=generator(1, "a")), torch.rand(5, generator=generator(1, "a")))
    for other in [(2, "a"), (1, "b"), (1, "a", 0), ("1", "a")]:
        assert not torch.equal(torch.rand(5, generator=generator(1, "a")), torch.rand(5, generator=generator(*other)))


def test_every_use_of_a_seed_has_streams_of_its_own() -> None:
    """Else the noise of validation would be that of training."""
    keys: list[tuple[int | str, ...]] = [(0,), (1,), (0, "validation"), (1, "validation")]
    drawn = {tuple(torch.rand(3, generator=Streams(*key)["noise"]).tolist()) for key in keys}
    assert len(drawn) == len(keys)


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


def test_another_generator_is_seeded_by_its_source_anew_each_time_and_left_as_it_was() -> None:
    def drawn(source: torch.Generator, *, used: bool = True) -> torch.Tensor:
        other = generator("outside")
        with seeding(other, source):
            inside = torch.rand(3, generator=other) if used else torch.zeros(3)
        assert torch.equal(torch.rand(2, generator=other), torch.rand(2, generator=generator("outside")))
        return inside

    source, same = generator("source"), generator("source")
    first, second = drawn(source), drawn(source)
    assert not torch.equal(first, second)
    assert torch.equal(first, drawn(same))
    assert torch.equal(second, drawn(same))
    assert not torch.equal(first, drawn(generator("another")))


def test_a_generator_that_seeds_another_without_use_draws_what_it_would_have_drawn() -> None:
    source = generator("source")
    with seeding(generator("outside"), source):
        pass
    assert torch.equal(torch.rand(3, generator=source), torch.rand(3, generator=generator("source")))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_draws_on_a_gpu_come_from_the_source_and_leave_those_on_the_cpu_alone() -> None:
    torch.zeros(1, device="cuda")

    def drawn() -> tuple[torch.Tensor, torch.Tensor]:
        with drawing_from(generator("source")):
            return torch.rand(3, device="cuda"), torch.rand(3)

    outside = torch.cuda.get_rng_state()
    on_the_gpu, on_the_cpu = drawn()
    assert torch.equal(torch.cuda.get_rng_state(), outside)
    assert torch.equal(on_the_gpu, drawn()[0])
    assert torch.equal(on_the_cpu, torch.rand(3, generator=generator("source")))
