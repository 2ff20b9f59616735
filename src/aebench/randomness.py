"""One seeded generator for each purpose, so that drawing more of one thing never changes another."""

import hashlib
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch


def generator(*key: int | str) -> torch.Generator:
    """A generator on the CPU, its seed derived from `key`, e.g. `generator(seed, "order")`; equal keys, equal draws.

    torch's generator takes 32 bits of a seed: of 50,000 keys two may coincide, of a few dozen hardly any.
    """
    digest = hashlib.sha256(repr(key).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big"))


_global = threading.RLock()


@contextmanager
def drawing_from(source: torch.Generator) -> Iterator[None]:
    """Inside the block torch's global generator continues `source`; afterwards it is as it was before.

    torch.distributions and torch.nn.init draw from the global generator and take no other; this makes their
    randomness as explicit as that of functions with a `generator` argument. Where this process uses a GPU, what is
    drawn there is derived from `source` too, and does not change what is drawn on the CPU inside the block.
    """
    with _global, _on_the_gpu(source):
        outside = torch.get_rng_state()
        torch.set_rng_state(source.get_state())
        try:
            yield
        finally:
            source.set_state(torch.get_rng_state())
            torch.set_rng_state(outside)


def _on_the_gpu(source: torch.Generator) -> AbstractContextManager[None]:
    if not torch.cuda.is_initialized():
        return nullcontext()
    return seeding(torch.cuda.default_generators[torch.cuda.current_device()], source)


@contextmanager
def seeding(other: torch.Generator, source: torch.Generator) -> Iterator[None]:
    """Inside the block `other`, of another kind, has a seed that `source` gives; afterwards it is as it was before.

    If it was drawn from, `source` is moved on, so that the next seed is a new one.
    """
    outside = other.get_state()
    state = source.get_state().numpy().tobytes()
    other.manual_seed(int.from_bytes(hashlib.sha256(state).digest()[:8], "big"))
    begun = other.get_state()
    try:
        yield
    finally:
        if not torch.equal(other.get_state(), begun):
            torch.rand((), generator=source)
        other.set_state(outside)


class Streams:
    """The generators of one run, made at first use: `streams["order"]`, `streams["noise"]`, …"""

    def __init__(self, *key: int | str) -> None:
        """`key` is the seed of the run, followed by whatever sets this use of it apart (e.g. "validation")."""
        self._key = key
        self._generators: dict[str, torch.Generator] = {}

    def __getitem__(self, purpose: str) -> torch.Generator:
        """The generator for `purpose`; it goes on where its last use ended."""
        if purpose not in self._generators:
            self._generators[purpose] = generator(*self._key, purpose)
        return self._generators[purpose]

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Where each generator is, by purpose."""
        return {purpose: generator.get_state() for purpose, generator in self._generators.items()}

    def load_state_dict(self, states: Mapping[str, torch.Tensor]) -> None:
        """Continue from `states`, which `state_dict()` gave."""
        for purpose, state in states.items():
            self[purpose].set_state(state)
