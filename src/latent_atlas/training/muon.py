"""Muon: steps of orthogonal matrices, which need fewer epochs to the same error than Adam's.

The optimizer of Jordan et al. (2024), https://kellerjordan.github.io/posts/muon/. Torch's own,
:class:`torch.optim.Muon`, takes nothing but matrices, and computes in bfloat16, which only some processors
multiply fast.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

MOMENTUM = 0.95
ITERATIONS = 5
QUINTIC = (3.4445, -4.7750, 2.0315)  # x -> a x + b x^3 + c x^5 brings singular values from (0, 1] to 0.7 to 1.2
SMALLEST = 1e-7  # norm of a gradient that is divided by
LIKE_ADAM = 0.2  # root mean square of a step over the learning rate, about that of Adam (Liu et al., arXiv:2502.16982)
EPSILON = 1e-8  # of Adam


class Muon(torch.optim.Optimizer):
    """Muon for all parameters with at least two dimensions, Adam with the same learning rate for the others.

    A kernel (O, I, K, L) of a convolution counts as a matrix (O, I·K·L).

    Parameters
    ----------
    model : nn.Module
    lr : float
    betas : (float, float)
        Of Adam. The momentum of Muon stays at 0.95.
    fused : bool
        Whether Adam's part is one kernel.
    stacked : bool
        Whether the first dimension of each parameter counts networks, whose matrices are apart.
    """

    def __init__(
        self, model: nn.Module, lr: float, betas: tuple[float, float], fused: bool = False, stacked: bool = False
    ) -> None:
        self.least = 3 if stacked else 2  # dimensions of what holds matrices
        parameters = list(model.parameters())
        groups = [
            {"params": [p for p in parameters if (p.dim() >= self.least) is matrices], "matrices": matrices}
            for matrices in (True, False)
        ]
        super().__init__([group for group in groups if group["params"]], {"lr": lr, "betas": betas, "fused": fused})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Take a step. There is no closure."""
        for group in self.param_groups:
            given = [p for p in group["params"] if p.grad is not None]
            if group["matrices"]:
                self._muon(given, group)
            elif given:
                self._adam(given, group)

    def _muon(self, given: list[nn.Parameter], group: dict[str, Any]) -> None:
        for parameter in given:
            assert parameter.grad is not None
            state = self.state[parameter]
            if not state:
                state["exp_avg"] = torch.zeros_like(parameter)
            mean = state["exp_avg"].lerp_(parameter.grad, 1 - MOMENTUM)
            ahead = parameter.grad.lerp(mean, MOMENTUM)  # Nesterov's momentum
            matrix = ahead.flatten(self.least - 1)  # (S x) O x I·K·L
            size = LIKE_ADAM * max(matrix.shape[-2:]) ** 0.5
            parameter.sub_(orthogonal(matrix).view(parameter.shape), alpha=group["lr"] * size)

    def _adam(self, given: list[nn.Parameter], group: dict[str, Any]) -> None:
        for parameter in given:
            if not self.state[parameter]:
                self.state[parameter] = {
                    "step": torch.zeros((), device=parameter.device),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }
        weights: list[Tensor] = list(given)
        gradients = [parameter.grad for parameter in given if parameter.grad is not None]
        means, squares, steps = ([self.state[p][name] for p in given] for name in ("exp_avg", "exp_avg_sq", "step"))
        beta1, beta2 = group["betas"]
        adam(
            weights, gradients, means, squares, [], steps, fused=group["fused"], amsgrad=False, maximize=False,
            beta1=beta1, beta2=beta2, lr=group["lr"], weight_decay=0.0, eps=EPSILON,
        )  # fmt: skip


def orthogonal(matrix: Tensor) -> Tensor:
    """A matrix with the same singular vectors, and singular values of about one: Newton-Schulz iterations.

    They are taken with the Gram matrix, which is smaller, and their product is then multiplied with the matrix.

    Parameters
    ----------
    matrix : tensor
        (..., M, N)

    Returns
    -------
    tensor
        (..., M, N); zeros of zeros.
    """
    a, b, c = QUINTIC
    wide = matrix if matrix.shape[-2] <= matrix.shape[-1] else matrix.mT
    x = wide / torch.linalg.matrix_norm(wide, keepdim=True).clamp(min=SMALLEST)  # ... x m x n
    gram = x @ x.mT  # ... x m x m, of the smaller side m
    product, identity = None, torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    for _ in range(ITERATIONS):  # x becomes factor @ x, and its Gram matrix factor @ gram @ factor
        factor = a * identity + b * gram + c * gram @ gram
        product = factor if product is None else factor @ product
        gram = factor @ gram @ factor
    x = product @ x
    return x if wide is matrix else x.mT


__all__ = ["Muon", "orthogonal"]
