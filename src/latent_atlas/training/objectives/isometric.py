"""Mean squared error per pixel, and the relaxed distortion of the decoder: MSE + weight E[tr H²] / E[tr H]².

H = JᵀJ is the metric that the decoder induces in the k coordinates. The ratio of the means over a batch of codes is
least, 1/k, where H is the same multiple of the identity everywhere: a scaled isometry. Lee, Yoon, Son, Park,
"Regularized Autoencoders for Isometric Representation Learning" (2022). The codes are mixtures of pairs, as there. With
random signs v, tr H is the mean of ‖Jv‖² and tr H² that of ‖JᵀJv‖²: one JVP and one VJP.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad, grad
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import mse_loss

from latent_atlas.training.objectives import aside


def loss(
    model: Any, x: Tensor, generator: torch.Generator, weight: float = 0.01, eta: float = 0.2
) -> tuple[Tensor, Mapping[str, Tensor]]:
    """The error of the reconstructions of images (B, C, H, W) in float32, and their ``relaxed_distortion``.

    Codes are mixed as α z + (1 - α) z', with α uniform in [-eta, 1 + eta].
    """
    z = model.encoder(x)  # B x k
    error = mse_loss(model.decoder(z).float(), x)
    share = torch.rand(len(z), *[1] * (z.dim() - 1), generator=generator).to(z) * (1 + 2 * eta) - eta  # B x 1
    other = z[torch.randperm(len(z), generator=generator).to(z.device)]  # B x k
    signs = torch.randint(2, z.shape, generator=generator).to(z) * 2 - 1  # B x k
    distortion = relaxed_distortion(partial(aside, model.decoder), share * z + (1 - share) * other, signs)
    return error + weight * distortion, {"reconstruction_mse": error, "relaxed_distortion": distortion}


def relaxed_distortion(decode: Callable[[Tensor], Tensor], z: Tensor, v: Tensor) -> Tensor:
    """The estimate from one vector v (B, k) at each code z (B, k) of a graph."""
    pushed, pulled = (part.float().flatten(1).square().sum(1).mean() for part in _pushed_and_pulled(decode, z, v))
    return pulled / pushed**2


def _pushed_and_pulled(decode: Callable[[Tensor], Tensor], z: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Jv (B, C, H, W) and JᵀJv (B, k); in forward mode, or by two backward passes where an operation has none."""
    with sdpa_kernel(SDPBackend.MATH):  # the others have neither forward mode nor a second backward pass
        try:
            with forward_ad.dual_level():
                y, pushed = forward_ad.unpack_dual(decode(forward_ad.make_dual(z, v)))
        except (NotImplementedError, RuntimeError):
            y = decode(z)
            u = torch.zeros_like(y, requires_grad=True)
            (pushed,) = grad(grad(y, z, u, create_graph=True), u, v, create_graph=True)
        return pushed, grad(y, z, pushed, create_graph=True)[0]
