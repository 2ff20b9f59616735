"""torchvision, importable beside a CPU build of torch.

The wheel of torchvision is built for CUDA, and its import registers shape functions for two operators that its compiled
part cannot define beside a CPU torch. Declaring the two first lets the rest of the package work.
"""

import torch

try:
    import torchvision
except RuntimeError:
    _SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
    _library = torch.library.Library("torchvision", "DEF")  # the operators live as long as this object
    _library.define(f"nms{_SCHEMA}")
    _library.define(f"qnms{_SCHEMA}")
    import torchvision

__all__ = ["torchvision"]
