"""Surroundings in which a network of somebody else computes what it is asked for, set for a block and restored."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

NARROW = (torch.float32, torch.float16, torch.bfloat16)
_BY_NAME = {f"torch.{kind}Tensor": torch.float32 for kind in ("Float", "Half", "BFloat16")}
_CASTS = {Tensor.float: torch.float32, Tensor.half: torch.float16, Tensor.bfloat16: torch.bfloat16}


def is_known(model: nn.Module) -> bool:
    """Whether a network is of an architecture of this package, which needs no surroundings."""
    return type(model).__module__.startswith("latent_atlas.models.architectures.")


class Widened(TorchFunctionMode):
    """Within the block, casts to a narrower floating-point type than float64 give float64.

    A network that casts its input to float32, or keeps tensors that are no buffers, computes in float64 throughout.

    Attributes
    ----------
    met : bool
        Whether a float64 tensor would have been narrowed.
    """

    met = False

    def __enter__(self) -> Widened:
        self._default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)  # of tensors that the network makes
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        torch.set_default_dtype(self._default)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        options = dict(kwargs or {})
        given = args[0] if args and isinstance(args[0], Tensor) else None
        wide = given is not None and given.dtype == torch.float64
        if func in _CASTS and given is not None and not given.is_complex():
            self.met |= wide
            return _double(given)
        if func is Tensor.type_as and wide and args[1].dtype in NARROW:
            self.met = True
            return given
        if func in (Tensor.to, Tensor.type):
            before = (*args, *options.values())
            if func is Tensor.to and len(args) > 1 and isinstance(args[1], Tensor) and args[1].dtype in NARROW:
                args = (args[0], args[1].device, torch.float64, *args[2:])
            args = tuple(self._widened(value) for value in args)
            options = {name: self._widened(value) for name, value in options.items()}
            self.met |= wide and any(a is not b for a, b in zip(before, (*args, *options.values()), strict=False))
        elif options.get("dtype") in NARROW:
            options["dtype"] = torch.float64
            self.met |= wide
        elif not func.__name__.endswith("_") and func is not Tensor.__setitem__:  # these write into their first
            tensors = [value for value in (*args, *options.values()) if isinstance(value, Tensor)]
            if any(t.dtype == torch.float64 for t in tensors) and any(t.dtype in NARROW for t in tensors):
                args = tuple(_double(v) if isinstance(v, Tensor) and v.dtype in NARROW else v for v in args)
                options = {
                    n: _double(v) if isinstance(v, Tensor) and v.dtype in NARROW else v for n, v in options.items()
                }
        return func(*args, **options)

    @staticmethod
    def _widened(value: Any) -> Any:
        narrow = _BY_NAME.get(value) if isinstance(value, str) else value
        return torch.float64 if isinstance(narrow, torch.dtype) and narrow in NARROW else value


def _double(tensor: Tensor) -> Tensor:
    """The tensor in float64."""
    return tensor if tensor.dtype == torch.float64 else tensor.double()


@contextmanager
def computing(model: nn.Module, dtype: torch.dtype) -> Iterator[Widened | None]:
    """Let a network compute in float64 throughout, where that is asked for."""
    with ExitStack() as stack:
        widened = None
        if dtype == torch.float64 and not is_known(model):
            _eagerly(stack)
            widened = stack.enter_context(Widened())
        yield widened


@contextmanager
def differentiable(model: nn.Module) -> Iterator[None]:
    """Choose the implementations of layers that every kind of differentiation supports."""
    with ExitStack() as stack:
        if not is_known(model):
            fast = torch.backends.mha.get_fastpath_enabled()
            stack.callback(torch.backends.mha.set_fastpath_enabled, fast)
            torch.backends.mha.set_fastpath_enabled(False)
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))  # its recurrent layers need training mode
            _eagerly(stack)
        yield


def _eagerly(stack: ExitStack) -> None:
    """What is compiled runs as it was written: a compiler would not know of the surroundings."""
    if "torch._dynamo" in sys.modules:
        stack.enter_context(torch.compiler.set_stance("force_eager"))


class _Detached(TorchFunctionMode):
    """Within the block, deep copies of tensors that were computed from others are copies of their numbers."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is Tensor.__deepcopy__ and not args[0].is_leaf:
            return args[1].setdefault(id(args[0]), args[0].detach().clone())
        return func(*args, **(kwargs or {}))


def copied(model: nn.Module, build: Callable[[], nn.Module] | None = None) -> nn.Module:
    """A network of its own with the same weights, in the same mode.

    Parameters
    ----------
    model : nn.Module
    build : callable, optional
        Gives a network of the same architecture, which then gets the weights. Without it the network is copied, and
        what cannot be copied, such as a lock, is shared.
    """
    if build is not None:
        with torch.random.fork_rng([]):
            other = build()
        if other is not model:
            weight = next(model.parameters(), torch.empty(0))
            other.to(weight.device, weight.dtype).load_state_dict(model.state_dict())
            return other.train(model.training)
    with _Detached():
        try:
            return copy.deepcopy(model)
        except Exception:
            memo: dict[int, Any] = {}
            for value in (value for module in model.modules() for value in vars(module).values()):
                if not isinstance(value, dict):  # of layers and weights
                    try:
                        copy.deepcopy(value)
                    except Exception:
                        memo[id(value)] = value
            return copy.deepcopy(model, memo)


def layer_at(error: BaseException, model: nn.Module) -> str | None:
    """The innermost layer of a network, as ``name (class)``, whose code raised an error."""
    names = {id(module): name for name, module in model.named_modules()}
    found, trace = None, error.__traceback__
    while trace is not None:
        module = trace.tb_frame.f_locals.get("self")
        if isinstance(module, nn.Module) and names.get(id(module)):
            found = f"{names[id(module)]} ({type(module).__name__})"
        trace = trace.tb_next
    return found
