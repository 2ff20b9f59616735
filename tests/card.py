"""A stand-in for a GPU on a machine without one: it computes on the CPU, and refuses what a GPU refuses.

Inside `Card()` the device `meta` holds values. A tensor there may meet no tensor of the CPU, is drawn by no generator
of the CPU, and is no NumPy array, so code that forgets where its tensors are fails as it would on a GPU.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("meta")
_aten = torch.ops.aten
# What takes tensors of both devices, as on a GPU.
_BETWEEN = (_aten.copy_.default, _aten._to_copy.default)


class OnCard(Tensor):
    """A tensor of the card: `inner` holds its values."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> "OnCard":
        made: OnCard = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, inner.shape, strides=inner.stride(), storage_offset=0, dtype=inner.dtype, device=DEVICE
        )
        made.inner = inner
        return made

    def __repr__(self) -> str:  # type: ignore[override]
        return f"OnCard({self.inner!r})"

    @property  # type: ignore[override]
    def data(self) -> "OnCard":
        found = self.detach()
        assert isinstance(found, OnCard)
        return found

    @data.setter
    def data(self, other: "OnCard") -> None:
        self.inner = other.inner

    def tolist(self) -> Any:
        return self.inner.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{func}: a tensor of the card outside of Card()")


class Card(TorchDispatchMode):
    """Inside the block there is a card."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        tensors = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, Tensor)]
        here = [value for value in tensors if isinstance(value, OnCard)]
        there = [value for value in tensors if not isinstance(value, OnCard)]
        if torch.Tag.pointwise in func.tags:  # a GPU takes a number that is a tensor
            there = [value for value in there if value.dim()]
        if here and there and func not in _BETWEEN:
            raise AssertionError(f"{func}: tensors of the card and of the CPU")
        target = kwargs.get("device")
        on_card = bool(here) if target is None else torch.device(target) == DEVICE
        if func is _aten.copy_.default:
            on_card = isinstance(args[0], OnCard)
        if on_card and kwargs.get("generator") is not None:
            raise AssertionError(f"{func}: a generator of the CPU draws on the card")
        if target is not None and torch.device(target) == DEVICE:
            kwargs["device"] = torch.device("cpu")
        if func in (_aten.is_pinned.default, _aten._pin_memory.default):
            return args[0] if func is _aten._pin_memory.default else False
        inside = tree_map(lambda value: value.inner if isinstance(value, OnCard) else value, (args, kwargs))
        found = func(*inside[0], **inside[1])
        # What is changed in place stays the tensor that it is.
        own = {id(value.inner): value for value in here}

        def outside(value: Any) -> Any:
            if not isinstance(value, Tensor):
                return value
            if id(value) in own:
                return own[id(value)]
            if not on_card:
                return value
            # A move to the card is a copy, as it is on a GPU.
            return OnCard(value.clone() if func is _aten._to_copy.default and there else value)

        return tree_map(outside, found)
