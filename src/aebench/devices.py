"""Where tensors are: on the CPU, or on an NVIDIA GPU."""

import torch
from torch import Tensor

from aebench.config import Device
from aebench.errors import ConfigError


def available(device: Device) -> torch.device:
    """The device of that name.

    Raises:
        ConfigError: it is `cuda`, and torch finds no GPU.
    """
    if device == "cuda" and not torch.cuda.is_available():
        reason = "finds no GPU" if torch.version.cuda else "is built without CUDA"
        raise ConfigError(
            f"device: found cuda, but torch {torch.__version__} {reason}, "
            "allowed: cpu, or cuda with an NVIDIA GPU and a CUDA build of torch"
        )
    return torch.device(device)


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """`tensor`, from the CPU, on `device`; a GPU need not wait for it, nor the CPU for the GPU."""
    if device.type == "cpu":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)
