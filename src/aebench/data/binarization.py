"""Pixels that are 0 or 1 once and for all, in every split."""

import torch

from aebench.data.description import Arrays, Binarization
from aebench.randomness import generator

# So many pixels are drawn at once: as floating-point numbers they take four times the memory, twice.
_BLOCK = 2**22


def binarized(arrays: Arrays, binarization: Binarization, name: str) -> Arrays:
    """The arrays of a data set, their images black and white (0, 255) where that does not change from use to use.

    Args:
        arrays: images uint8 `[N, C, H, W]` under names that end in `_images`, and others.
        binarization: what is drawn with each use (`stochastic`) stays as it is here.
        name: of the data set; the draw is from a generator for it and the name of the array.
    """
    if binarization not in ("fixed", "threshold"):
        return arrays
    binary = dict(arrays)
    for array in (array for array in arrays if array.endswith("_images")):
        grey = torch.tensor(arrays[array])
        noise = generator(name, array, "binarization")
        for pixels in grey.view(-1).split(_BLOCK):
            share = pixels.float().div_(255)
            white = torch.bernoulli(share, generator=noise) if binarization == "fixed" else share >= 0.5
            pixels.copy_(white * 255)
        binary[array] = grey.numpy()
    return binary
