"""Other people's networks as autoencoders. A module here is an adapter, under the module's name: two functions.

``encode(model, x)`` takes images (N, C, H, W) in [0, 1] to codes (N, ...) of any shape, and ``decode(model, z)`` takes
codes of that shape to images. An adapter whose ``encode`` is None is one of a decoder alone: the code of an image is
that which is given for it, or else that of the closest point of the surface. ``posterior(model, x)``, if there is one,
gives means and log-variances in the shape of the codes, for the objective ``vae``.
"""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn.parameter import is_lazy

from latent_atlas.errors import CheckpointError, ModelError
from latent_atlas.imports import ADAPTERS
from latent_atlas.models.closest import closest
from latent_atlas.models.given import GivenCodes
from latent_atlas.models.surroundings import copied

MEANS = ("latent_dist", "embedding", "mean", "mu", "loc", "latents", "z")
LOG_VARIANCES = ("logvar", "log_var", "log_covariance", "log_variance")
IMAGES = ("sample", "reconstruction", "recon", "recon_x", "x_hat", "mean")
GIVEN = {"given.codes", "given.images"}  # names in a state dict
Function = Callable[[nn.Module, Tensor], Tensor]
log = logging.getLogger("latent_atlas")


def functions(name: str) -> tuple[Function | None, Function, Any]:
    """``encode``, ``decode`` and ``posterior`` of an adapter: a module here, or ``module:name`` of a user's object.

    Raises
    ------
    ModelError
        If there is none of that name, or it lacks one of the two.
    """
    found = ADAPTERS.get(name, ModelError)
    encode, decode = getattr(found, "encode", found), getattr(found, "decode", None)
    if inspect.isclass(found) and inspect.isfunction(vars(found).get("encode")):  # which needs an instance
        raise ModelError(
            f"adapter {name!r} is a class: name an instance of it, such as module:{found.__name__.lower()}"
        )
    if not (callable(decode) and (encode is None or callable(encode))):
        raise ModelError(f"adapter {name!r} needs two functions, encode(model, x) and decode(model, z)")
    return encode, decode, getattr(found, "posterior", None)


class Adapted(nn.Module):
    """A network behind two functions: an ``encoder`` to codes (N, k) and a ``decoder`` from them.

    Its state dict is that of the network, under the network's own names, with the codes that are given for images.

    Attributes
    ----------
    model : nn.Module
        The network itself.
    latent_shape : tuple of int
        The shape of one code as the functions have it; k is the product.
    given : GivenCodes or None
        Codes of known images, of a network without an encoder.
    """

    def __init__(
        self,
        model: nn.Module,
        encode: Function | None,
        decode: Function,
        latent_shape: tuple[int, ...],
        variances: Callable[[nn.Module, Tensor], tuple[Tensor, Tensor]] | None = None,
    ) -> None:
        super().__init__()
        self.model, self.latent_shape = model, tuple(latent_shape)
        self.encode, self.decode, self.variances = encode, decode, variances
        self.given: GivenCodes | None = None

    @property
    def encoder(self) -> nn.Module:
        """Images (N, C, H, W) to codes (N, k)."""
        return self._part(_Encoder(self.model, self.encode, self.decode, self.latent_shape, self.given))

    @property
    def decoder(self) -> nn.Module:
        """Codes (N, k) to what the network makes of them, C·H·W numbers each."""
        return self._part(_Decoder(self.model, self.decode, self.latent_shape))

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x)).reshape(x.shape)  # N x C x H x W

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Means and log-variances (N, k) of the codes of images; ModelError if the adapter does not know of any."""
        if self.variances is None:
            raise ModelError(
                f"{type(self.model).__name__} is read through an adapter without variances, which the objective vae "
                f"needs: name the adapter vae, or give yours a function posterior(model, x)"
            )
        mean, log_variance = self.variances(self.model, x)
        return mean.flatten(1), log_variance.flatten(1)

    def _part(self, part: nn.Module) -> nn.Module:
        part.training = self.training  # of this alone: its layers keep their own mode
        return part

    def give(self, codes: GivenCodes) -> None:
        """Keep codes of images; CheckpointError if there is an encoder, or they have other than k numbers."""
        if self.encode is not None:
            raise CheckpointError("codes: this adapter has an encoder; codes are given only where there is none")
        if codes.codes.shape[1] != math.prod(self.latent_shape):
            raise CheckpointError(f"codes of {codes.codes.shape[1]} numbers, not {math.prod(self.latent_shape)}")
        self.given = codes

    def take_given(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Keep the codes in a state dict, if there are any; the rest of it."""
        if state.keys() >= GIVEN:
            self.give(GivenCodes(*(state[name].clone() for name in sorted(GIVEN))))
        return {name: value for name, value in state.items() if name not in GIVEN}

    def state_dict(self, *args: Any, **options: Any) -> dict[str, Any]:  # type: ignore[override]
        state = self.model.state_dict(*args, **options)
        if self.given is not None:
            state |= {f"{options.get('prefix', '')}given.{name}": t for name, t in self.given.state_dict().items()}
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **options: Any) -> Any:
        return self.model.load_state_dict(self.take_given(state_dict), *args, **options)


class _Decoder(nn.Module):
    def __init__(self, model: nn.Module, decode: Function, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.model, self.decode, self.shape = model, decode, shape

    def forward(self, z: Tensor) -> Tensor:
        return self.decode(self.model, z.reshape(-1, *self.shape) if len(self.shape) > 1 else z)


class _Encoder(_Decoder):
    def __init__(
        self,
        model: nn.Module,
        encode: Function | None,
        decode: Function,
        shape: tuple[int, ...],
        given: GivenCodes | None,
    ) -> None:
        super().__init__(model, decode, shape)
        self.encode, self.given = encode, given

    def forward(self, x: Tensor) -> Tensor:
        if self.encode is not None:
            return self.encode(self.model, x).reshape(x.shape[0], -1)  # N x k
        z = x.new_empty(len(x), math.prod(self.shape))  # N x k
        others = torch.ones(len(x), dtype=torch.bool, device=x.device)
        if self.given is not None:
            known, codes = self.given.of_known(x)
            z[known], others = codes, ~known
        if bool(others.any()):
            wide = _Decoder(copied(self.model).double().eval(), self.decode, self.shape)
            z[others] = closest(wide, x[others].detach().double(), z.shape[1]).to(x.dtype)
        return z


def adapted(
    model: nn.Module,
    name: str | None,
    input_shape: tuple[int, int, int],
    latent_dim: int,
    latent_shape: tuple[int, ...] | None = None,
) -> nn.Module:
    """A network behind an adapter; two images tell the shape of its codes.

    Parameters
    ----------
    model : nn.Module
    name : str or None
        Of the adapter. None is for a network with an ``encoder`` and a ``decoder``: it is given back as it is, unless
        its encoder gives codes of another shape than (N, k), or a mean and a log-variance.
    input_shape : (C, H, W)
    latent_dim : int
        k, the numbers in a code.
    latent_shape : tuple of int, optional
        Of one code, for a network without an encoder; (k,) or (k, 1, 1) if nothing is said or the network refuses it.

    Raises
    ------
    ModelError
        If there is no such adapter, its functions fail on the network, or the codes have other than k numbers.
    """
    if any(is_lazy(tensor) for tensor in (*model.parameters(), *model.buffers())):  # their shapes come with an image
        with suppress(Exception):  # which is told where the network is tried
            _in_eval_mode(model, lambda: model(torch.zeros(1, *input_shape)))
    if name is None:
        name = _needed(model, input_shape, latent_dim)
        if name is None:
            return model
        log.info(f"the encoder gives no codes N x {latent_dim} by itself: it is read through the adapter {name}")
    encode, decode, variances = functions(name)
    try:
        shape = _latent_shape(model, encode, decode, input_shape, latent_dim, latent_shape)
    except ModelError:
        raise
    except Exception as error:  # whatever the network says where the adapter does not fit it
        raise ModelError(
            f"adapter {name!r} does not fit {type(model).__name__} ({type(error).__name__}: {error}): choose another, "
            f"or write two functions of your own (docs/models.md)"
        ) from error
    if math.prod(shape) != latent_dim:
        raise ModelError(
            f"the codes of {type(model).__name__} have {' x '.join(map(str, shape))} = {math.prod(shape)} numbers, not "
            f"{latent_dim}: set latent_dim: {math.prod(shape)}"
        )
    return Adapted(model, encode, decode, shape, variances)


def of_functions(
    encode: Callable[..., Tensor] | None,
    decode: Callable[..., Tensor],
    latent_shape: tuple[int, ...],
    model: nn.Module | None = None,
    codes: tuple[Tensor, Tensor | np.ndarray] | None = None,
) -> Adapted:
    """Two functions as an autoencoder: of a tensor alone, or of ``model`` and a tensor if one is given.

    ``codes`` are uint8 images (N, C, H, W) and the codes that are given for them.
    """
    if model is not None:
        network = Adapted(model, encode, decode, latent_shape)
    else:
        pair = _Functions(encode, decode)
        network = Adapted(pair, encode and (lambda both, x: both(x, 0)), lambda both, z: both(z, 1), latent_shape)
    if codes is not None:
        network.give(GivenCodes.of({"codes": codes}, math.prod(latent_shape)))
    return network


class _Functions(nn.Module):
    """Functions of a tensor, each a module or not; what is no module computes in the precision that it can."""

    def __init__(self, *functions: Callable[[Tensor], Tensor] | None) -> None:
        super().__init__()
        self.functions, self.said = functions, False
        self.modules_among_them = nn.ModuleList(f for f in functions if isinstance(f, nn.Module))
        if next(self.parameters(), None) is None:
            self.precision = nn.Parameter(torch.empty(0), requires_grad=False)  # what the whole is asked to compute in

    def forward(self, t: Tensor, which: int) -> Tensor:
        function = self.functions[which]
        assert function is not None
        try:
            out = function(t)
        except RuntimeError:
            if t.dtype == torch.float32:
                raise
            out = function(torch.ops.aten.to.dtype(t, torch.float32))  # also where casts do nothing
        if out.dtype != t.dtype and not self.said:
            self.said = True
            log.warning(
                f"warning: the functions compute in {out.dtype}, not in {t.dtype} as asked, and derivatives have its "
                f"rounding: hand the network over as model= and take it as the functions' first argument"
            )
        return out.to(t.dtype)


def tensor_of(output: Any, names: tuple[str, ...]) -> Tensor:
    """The tensor in what a network gives: itself, the entry of the first of these names, or the first of a tuple.

    Raises
    ------
    ModelError
        If there is none.
    """
    if isinstance(output, Tensor | fx.Proxy):  # a proxy stands for one where the network is traced
        return output  # type: ignore[return-value]
    entries = output if isinstance(output, Mapping) else {n: getattr(output, n) for n in names if hasattr(output, n)}
    found = [entries[n] for n in names if n in entries and not callable(entries[n])]
    if isinstance(output, tuple | list):
        found += output[:1]
    if not found:
        raise ModelError(
            f"the network gives a {type(output).__name__} without {', '.join(names[:-1])} or {names[-1]}: write two "
            f"functions of your own (docs/models.md)"
        )
    return tensor_of(found[0], names)


def pair_of(output: Any) -> tuple[Tensor, Tensor]:
    """Mean and log-variance in what a network gives: a pair, or entries of these names.

    Raises
    ------
    ModelError
        If there are no two tensors of one shape.
    """
    output = getattr(output, "latent_dist", output)
    if isinstance(output, Tensor) or (isinstance(output, tuple | list) and len(output) < 2):
        raise ModelError("the encoder gives a mean without a log-variance, which the objective vae needs")
    given = output[:2] if isinstance(output, tuple | list) else (output, output)
    mean, log_variance = tensor_of(given[0], MEANS), tensor_of(given[1], LOG_VARIANCES)
    if mean.shape != log_variance.shape:
        raise ModelError(f"mean and log-variance have the shapes {tuple(mean.shape)} and {tuple(log_variance.shape)}")
    return mean, log_variance


def part(model: nn.Module, *names: str) -> Callable[[Tensor], Any]:
    """The first of these methods or parts that a network has.

    Raises
    ------
    ModelError
        If it has none of them.
    """
    for name in names:
        if callable(found := getattr(model, name, None)):
            return found
    raise ModelError(f"{type(model).__name__} has no {' and no '.join(names)}: choose an adapter that fits it")


def _needed(model: nn.Module, input_shape: tuple[int, int, int], latent_dim: int) -> str | None:
    """The adapter that a network with an encoder and a decoder needs, as far as one image tells."""
    try:
        output = _in_eval_mode(model, lambda: model.encoder(torch.zeros(1, *input_shape)))  # type: ignore[operator]
    except Exception:  # a network that cannot do this is refused with its own words by whoever uses it
        return None
    if isinstance(output, Tensor):
        return "plain" if output.shape != (1, latent_dim) and output.numel() == latent_dim else None
    if isinstance(output, tuple | list) and len(output) == 2 and all(isinstance(t, Tensor) for t in output):
        mean, variance = output
        return "vae" if mean.shape == variance.shape and mean.numel() == latent_dim else None
    return None


def _latent_shape(
    model: nn.Module,
    encode: Function | None,
    decode: Function,
    input_shape: tuple[int, int, int],
    latent_dim: int,
    wanted: tuple[int, ...] | None,
) -> tuple[int, ...]:
    flat, single = (latent_dim,), (latent_dim, 1, 1)  # the second for generators that begin with a convolution
    if encode is not None:
        codes = _in_eval_mode(model, lambda: encode(model, torch.zeros(2, *input_shape)))
        wanted = tuple(codes.shape[1:]) or (1,)
    shapes = [wanted] if wanted and (encode is not None or math.prod(wanted) == latent_dim) else []
    shapes += [flat] if encode is not None else [flat, single]
    for shape in shapes:
        try:
            images = _in_eval_mode(model, lambda shape=shape: decode(model, torch.zeros(2, *shape)))  # type: ignore[misc]
        except (RuntimeError, ValueError, IndexError):
            if encode is None and shape is single:
                raise
            continue
        if images.numel() == 2 * math.prod(input_shape):
            return shape
    return shapes[0]


def _in_eval_mode(model: nn.Module, call: Callable[[], Any]) -> Any:
    """What a call gives in eval mode, without traces: neither in the network nor in torch's random generator."""
    modes = [(module, module.training) for module in model.modules()]
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        model.eval()
        try:
            return call()
        finally:
            for module, mode in modes:
                module.training = mode
