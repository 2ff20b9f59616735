"""One seeded generator for each purpose, so that drawing more of one thing never changes another."""

import hashlib
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch


def generator(*key: int | str) -> torch.Generator:
    """A generator whose seed is derived from `key`, e.g. `generator(seed, "order")`; equal keys, equal draws.

    torch's generator takes 32 bits of a seed: of 50,000 keys some two may coincide, of a few dozen none.
    """
    digest = hashlib.sha256(repr(key).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big"))


_global = threading.RLock()


@contextmanager
def drawing_from(source: torch.Generator) -> Iterator[None]:
    """Inside the block torch's global generator continues `source`; afterwards it is as it was before.

    torch.distributions and torch.nn.init draw from the global generator and take no other; this makes their
    randomness as explicit as that of functions with a `generator` argument.
    """
    with _global:
        outside = torch.get_rng_state()
        torch.set_rng_state(source.get_state())
        try:
            yield
        finally:
            source.set_state(torch.get_rng_state())
            torch.set_rng_state(outside)


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

    def states(self) -> dict[str, torch.Tensor]:
        """Where each generator is, by purpose."""
        return {purpose: generator.get_state() for purpose, generator in self._generators.items()}

    def go_on(self, states: Mapping[str, torch.Tensor]) -> None:
        """Continue from `states`."""
        for purpose, state in states.items():
            self[purpose].set_state(state)
