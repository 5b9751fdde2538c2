"""Networks that are one chain of layers, each fed with the output of the one before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.nn.utils import parametrize

LAYERS = ("torch.nn.modules.", "latent_atlas.kernels.")  # where the classes of layers are defined
ACTIVATIONS: Mapping[str, type[nn.Module]] = {
    "clamp": nn.Hardtanh, "elu": nn.ELU, "leaky_relu": nn.LeakyReLU, "relu": nn.ReLU, "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
}  # fmt: skip


class Call(NamedTuple):
    """One call of a layer: its name in the network, the layer, what it was given and what it gave."""

    name: str
    layer: nn.Module
    given: Tensor
    out: Tensor


class _Tracer(fx.Tracer):
    """Follows a network down to the layers of torch and to ours."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return type(m).__module__.startswith(LAYERS) and not isinstance(m, nn.Sequential)


@torch.no_grad()
def trace(part: nn.Module, example: Tensor) -> list[Call]:
    """The calls that a network makes of its layers, in their order, as its code says.

    Functions that have an equal layer count as that layer.

    Parameters
    ----------
    part : nn.Module
        In eval mode.
    example : tensor (1, ...)
        An input of random numbers from 0 to 1, which gives the shapes.

    Raises
    ------
    ValueError
        If the network is anything but one chain of layers, or its code cannot be followed.
    """
    # A second point, far out, shows what hides from the tracer, and whether points are mixed with each other.
    points = torch.cat([example, 200 * example - 100])
    calls, x = [], points
    for name, layer in _chain(part):
        try:
            out = layer(x.clone())  # it may write over what it is given
        except (RuntimeError, TypeError, IndexError) as error:
            raise ValueError(f"layer {name} cannot be called alone ({error})") from error
        if not isinstance(out, Tensor) or out.dim() < 1 or len(out) != len(points):
            raise ValueError(f"layer {name} does not map each point to one tensor")
        calls.append(Call(name, layer, x[:1], out[:1]))
        x = out
    if not calls:
        raise ValueError("it has no layers")
    if not torch.equal(part(points.clone()), x):
        raise ValueError("something other than its layers shapes the output of the network")
    return calls


def _chain(part: nn.Module) -> list[tuple[str, nn.Module]]:
    """Names and layers of a network whose graph is a chain."""
    for name, module in part.named_modules():
        if module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module):
            raise ValueError(f"a hook or a function of its own changes {name or 'the network'}")
        if parametrize.is_parametrized(module):
            raise ValueError(f"the weights of {name or 'the network'} are computed from others")
    tracer = _Tracer()
    root = nn.Sequential(part) if tracer.is_leaf_module(part, "") else part
    try:
        first, *nodes, last = tracer.trace(root).nodes
    except Exception as error:  # whatever the network's code raises where it is given no tensor
        raise ValueError(f"its operations cannot be followed ({error})") from error
    chain, before = [], first
    sizes = {node for node in nodes if _is_size(node)}
    for node in nodes:
        if (
            node in sizes
            or node.op == "get_attr"
            or (node.target is getattr and node.args[1:] == ("shape",) and sizes.issuperset(node.users))
        ):
            continue
        if set(node.all_input_nodes) - sizes != {before} or node.args[:1] != (before,):
            what = f"layer {node.target}" if node.op == "call_module" else f"the operation {node.name}"
            raise ValueError(f"{what} is not fed with the output of the layer before it alone")
        if node.op == "call_module" and len(node.args) == 1 and not node.kwargs:
            chain.append((str(node.target), root.get_submodule(str(node.target))))
        else:
            chain += [(node.name, layer) for layer in _as_layers(node, sizes)]
        before = node
    if last.args != (before,):
        raise ValueError("its output is not that of its last layer")
    return chain


def _is_size(node: fx.Node) -> bool:
    """Whether a node is the number of points, ``x.size(0)`` or ``x.shape[0]``."""
    if node.op == "call_method" and node.target == "size":
        return node.args[1:] == (0,)
    of = node.args[0] if node.args else None
    return (
        getattr(node.target, "__name__", "") == "getitem"
        and node.args[1:] == (0,)
        and isinstance(of, fx.Node)
        and of.target is getattr
        and of.args[1:] == ("shape",)
    )


def _as_layers(node: fx.Node, sizes: set[fx.Node]) -> list[nn.Module]:
    """The layers that do the same as a function or a method."""
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    known = node.op == "call_method" or node.target in (getattr(torch, name, None), getattr(functional, name, None))
    options: tuple[Any, ...] = node.args[1:]
    if known and name == "flatten" and (options or "start_dim" in node.kwargs):
        return [nn.Flatten(*options, **dict[str, Any](node.kwargs))]
    if known and not node.kwargs and name in ("view", "reshape"):
        shape = options[0] if len(options) == 1 and isinstance(options[0], (tuple, list)) else options
        if len(shape) > 1 and (shape[0] in sizes or shape[0] == -1) and all(type(n) is int for n in shape[1:]):
            return [nn.Flatten(), *([nn.Unflatten(1, tuple(shape[1:]))] if len(shape) > 2 else [])]
    if known and name == "clamp":
        limits = dict(zip(("min", "max"), options, strict=False)) | dict(node.kwargs)
        low, high = limits.get("min"), limits.get("max")
        if len(limits) == 2 and isinstance(low, (int, float)) and isinstance(high, (int, float)) and low < high:
            return [nn.Hardtanh(low, high)]
    elif known and name in ACTIVATIONS and not options:
        return [ACTIVATIONS[name](**node.kwargs)]
    raise ValueError(f"the operation {node.name} is no layer")
