"""Import torchvision also where its compiled operators do not fit the installed torch.

A torchvision built for CUDA beside a torch built for the CPU fails on import, because it registers
fake kernels for two operators that were never loaded. Declaring the two is enough for its datasets, which use
neither. Where the operators are there, nothing is done.
"""

from __future__ import annotations

from types import ModuleType

import torch

_SCHEMAS = {
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


def datasets() -> ModuleType:
    """The module ``torchvision.datasets``."""
    try:
        import torchvision.datasets as module
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        _forget_half_imported()
        for name, schema in _SCHEMAS.items():
            if not hasattr(torch.ops.torchvision, name):
                torch.library.define(f"torchvision::{name}", schema)
        import torchvision.datasets as module
    return module


def _forget_half_imported() -> None:
    import sys

    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
