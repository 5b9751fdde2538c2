"""Mean squared error per pixel, and a penalty on the Jacobian J of the encoder: MSE + weight ‖J‖².

Rifai et al., "Contractive Auto-Encoders: Explicit Invariance During Feature Extraction" (2011). The squared Frobenius
norm is the sum of ‖Jᵀq‖² over an orthonormal basis q of the codes. Its estimate here is that of Hutchinson (1990): k/s
times the sum over s random orthonormal directions, another set for each image, by one backward pass a direction. It is
unbiased, and exact where s = k.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import mse_loss


def loss(
    model: Any, x: Tensor, generator: torch.Generator, weight: float = 0.001, directions: int = 1
) -> tuple[Tensor, Mapping[str, Tensor]]:
    """The error of the reconstructions of images (B, C, H, W) in float32, and their mean penalty ``contraction``.

    ``directions`` is s; from k on, the penalty is exact.
    """
    x = x.detach().requires_grad_()  # B x C x H x W
    z = model.encoder(x)  # B x k
    k = z[0].numel()
    some = min(directions, k)
    basis = torch.linalg.qr(torch.randn(len(z), k, some, generator=generator)).Q.to(z)  # B x k x s
    penalty = torch.zeros((), device=x.device)
    for q in basis.unbind(2):
        (pulled,) = torch.autograd.grad(z, x, q.view_as(z), create_graph=True)  # B x C x H x W
        penalty = penalty + pulled.float().square().sum() * (k / some / len(x))
    error = mse_loss(model.decoder(z).float(), x)
    return error + weight * penalty, {"reconstruction_mse": error, "contraction": penalty}
