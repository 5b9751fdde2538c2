"""Networks that are one chain of layers, each fed with the output of the one before."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class Call(NamedTuple):
    """One call of a layer: its name in the network, the layer, what it was given and what it gave."""

    name: str
    layer: nn.Module
    given: Tensor
    out: Tensor


@torch.no_grad()
def trace(part: nn.Module, example: Tensor) -> list[Call]:
    """The calls that a network makes of its layers for an example, in their order.

    Raises
    ------
    ValueError
        If the layers do not form one chain that alone shapes the output.
    """
    calls: list[Call] = []

    def hear(name: str, module: nn.Module, args: tuple[Any, ...], options: dict[str, Any], out: Any) -> None:
        if len(args) != 1 or options or not isinstance(args[0], Tensor) or not isinstance(out, Tensor):
            raise ValueError(f"layer {name} maps something else than one tensor to one")
        calls.append(Call(name, module, given[name], out.clone()))

    def hear_before(name: str, args: tuple[Any, ...]) -> None:
        given[name] = args[0].clone() if args and isinstance(args[0], Tensor) else example  # it may be written over

    given: dict[str, Tensor] = {}
    hooks = []
    for name, module in part.named_modules():
        if not list(module.children()):
            hooks.append(module.register_forward_pre_hook(lambda m, args, name=name: hear_before(name, args)))
            hooks.append(
                module.register_forward_hook(
                    lambda m, args, options, out, name=name: hear(name, m, args, options, out), with_kwargs=True
                )
            )
    try:
        result = part(example)
    finally:
        for hook in hooks:
            hook.remove()
    if not calls:
        raise ValueError("it has no layers")
    fed = [example, *(call.out for call in calls)]
    for call, expected in zip(calls, fed, strict=False):
        if call.given.shape != expected.shape or not torch.equal(call.given, expected):
            raise ValueError(f"layer {call.name} is not fed with the output of the layer before it")
    if not torch.equal(result, fed[-1]):
        raise ValueError("something other than its layers shapes the output of the network")
    return calls
