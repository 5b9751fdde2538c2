"""Transformations of images: rotation, shifts and their like, each a function of one step.

A transformation takes float images (N, C, H, W) and a step in its own unit, and gives the moved images; a
step of zero leaves them as they are. Beside each stands its derivative at zero, the velocity, where that is not zero
itself: for transformations of the pixel grid the gradient of the very cubic spline that they interpolate with.

To add one, write a function like these, here or in a module of your own, and name it in ``params.yaml``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy  # which loads a part of it when it is used

from latent_atlas.errors import ParamsError
from latent_atlas.imports import imported, is_path, place

if TYPE_CHECKING:
    from torch import Tensor

Images = np.ndarray
LARGEST_MATRIX = 1024  # pixels of a plane up to which a linear transformation is applied as a matrix, of 8 MiB


@dataclass(frozen=True)
class Transformation:
    """A transformation of images.

    Attributes
    ----------
    name : str
    unit : str
        What a step of 1 means.
    apply : callable
        (images (N, C, H, W), step) to images (N, C, H, W).
    velocity : callable or None
        Images (N, C, H, W) to the derivative of ``apply`` at step zero (N, C, H, W), where it is known.
    linear : bool
        Whether ``apply`` is a linear map of each plane (H, W), the same for all, so that many images can be moved by
        one product with its matrix.
    default_step : float
        The step of the shipped study, in that unit.
    """

    name: str
    unit: str
    apply: Callable[[Images, float], Images]
    velocity: Callable[[Images], Images] | None = None
    linear: bool = False
    default_step: float = 1.0

    def displacement(self, images: Tensor, step: float) -> Tensor:
        """What a step changes in images: moved images minus images, (N, C, H, W)."""
        import torch

        height, width = images.shape[-2:]
        if self.linear and height * width <= LARGEST_MATRIX:
            change = _change(self, step, height, width).to(images)
            return (images.flatten(-2) @ change).reshape(images.shape)
        moved = np.ascontiguousarray(self.apply(images.cpu().numpy(), step))
        return torch.from_numpy(moved).to(images) - images


@lru_cache(maxsize=32)
def _change(entry: Transformation, step: float, height: int, width: int) -> Tensor:
    """The matrix (H·W, H·W) that takes rows of pixels to what a step of a linear transformation changes in them."""
    import torch

    pixels = height * width
    units = np.eye(pixels).reshape(pixels, 1, height, width)
    return torch.from_numpy((entry.apply(units, step) - units).reshape(pixels, pixels))


def rotation(images: Images, step: float) -> Images:
    """Turn about the centre by ``step`` degrees, by cubic splines; what comes in from outside is black."""
    return _plane_by_plane(images, lambda plane: scipy.ndimage.rotate(plane, step, reshape=False))


def shift_x(images: Images, step: float) -> Images:
    """Move to the right by ``step`` pixels, by cubic splines; what comes in from outside is black."""
    return _plane_by_plane(images, lambda plane: scipy.ndimage.shift(plane, [0, step]))


def shift_y(images: Images, step: float) -> Images:
    """Move down by ``step`` pixels, by cubic splines; what comes in from outside is black."""
    return _plane_by_plane(images, lambda plane: scipy.ndimage.shift(plane, [step, 0]))


def scaling(images: Images, step: float) -> Images:
    """Enlarge about the centre by ``step`` percent."""
    if step <= -100:
        raise ParamsError(f"scaling by {step:g} percent leaves nothing of an image: choose a step above -100")
    factor = 1 / (1 + step / 100)
    return _affine(images, np.diag([factor, factor]))


def shear(images: Images, step: float) -> Images:
    """Slant by ``step`` degrees: rows move sideways, in proportion to their height above the centre."""
    return _affine(images, np.array([[1.0, 0.0], [np.tan(np.radians(step)), 1.0]]))


def brightness(images: Images, step: float) -> Images:
    """Make all pixels brighter by ``step`` percent of their value."""
    return images * (1 + step / 100)


def contrast(images: Images, step: float) -> Images:
    """Move all pixels away from the image's mean by ``step`` percent of their distance."""
    mean = images.mean(axis=(-1, -2), keepdims=True)
    return mean + (images - mean) * (1 + step / 100)


def blur(images: Images, step: float) -> Images:
    """Smooth with a Gaussian of a standard deviation of ``step`` pixels."""
    return scipy.ndimage.gaussian_filter(images, [0, 0, step, step], mode="constant")


def _affine(images: Images, matrix: np.ndarray) -> Images:
    """Resample at ``matrix`` times the offset (down, right) of each pixel from the centre."""
    centre = (np.array(images.shape[-2:]) - 1) / 2
    offset = centre - matrix @ centre
    return _plane_by_plane(images, lambda plane: scipy.ndimage.affine_transform(plane, matrix, offset=offset))


def _plane_by_plane(images: Images, move: Callable[[Images], Images]) -> Images:
    """Apply a function of one plane (H, W) to each channel of each image."""
    moved = [move(plane) for plane in images.reshape(-1, *images.shape[-2:])]
    return np.stack(moved).reshape(images.shape)


def _gradient(images: Images, axis: int) -> Images:
    """Derivative along an axis of the cubic spline through the pixels, at the pixels."""
    coefficients = scipy.ndimage.spline_filter1d(images, order=3, axis=axis, mode="mirror")
    return scipy.ndimage.correlate1d(coefficients, [-0.5, 0.0, 0.5], axis=axis, mode="mirror")


def _offsets(images: Images) -> tuple[Images, Images]:
    """How far down (H, 1) and right (1, W) of the centre each pixel lies."""
    height, width = images.shape[-2:]
    return np.arange(height)[:, None] - (height - 1) / 2, np.arange(width)[None, :] - (width - 1) / 2


def _rotation_velocity(images: Images) -> Images:
    down, right = _offsets(images)
    return np.radians(1) * (_gradient(images, -2) * right - _gradient(images, -1) * down)


def _scaling_velocity(images: Images) -> Images:
    down, right = _offsets(images)
    return -(_gradient(images, -2) * down + _gradient(images, -1) * right) / 100


def _shear_velocity(images: Images) -> Images:
    down, _ = _offsets(images)
    return np.radians(1) * _gradient(images, -1) * down


def _contrast_velocity(images: Images) -> Images:
    return (images - images.mean(axis=(-1, -2), keepdims=True)) / 100


TRANSFORMATIONS = {
    entry.name: entry
    for entry in (
        Transformation("rotation", "degree", rotation, _rotation_velocity, linear=True),
        Transformation("shift_x", "pixel", shift_x, lambda images: -_gradient(images, -1), linear=True),
        Transformation("shift_y", "pixel", shift_y, lambda images: -_gradient(images, -2), linear=True),
        Transformation("scaling", "percent", scaling, _scaling_velocity, linear=True, default_step=5.0),
        Transformation("shear", "degree", shear, _shear_velocity, linear=True, default_step=2.0),
        Transformation("brightness", "percent", brightness, lambda images: images / 100, linear=True, default_step=5.0),
        # not as a matrix, which would leave rounding where a plane of one value does not move
        Transformation("contrast", "percent", contrast, _contrast_velocity, default_step=5.0),
        # the velocity of a blur at zero is zero: it grows with the square of the step
        Transformation("blur", "pixel", blur, linear=True, default_step=0.5),
    )
}


def transformation(name: str) -> Transformation:
    """A transformation by its name here, or by the import path ``module:function`` of a user's own.

    A user's function has the signature of those above; an attribute ``unit`` of it names the unit of its step, and an
    attribute ``linear`` that is true says that it may be applied as a matrix (see :class:`Transformation`).

    Raises
    ------
    ParamsError
        If there is none of that name.
    """
    if name in TRANSFORMATIONS:
        return TRANSFORMATIONS[name]
    if not is_path(name):
        raise ParamsError(
            f"unknown transformation {name!r}: choose one of {', '.join(TRANSFORMATIONS)}, "
            f"or name a function of your own as 'module:function'"
        )
    found = imported(name, f"transformation {name!r}", ParamsError)
    if not callable(found):
        raise ParamsError(f"transformation {name!r} is a {type(found).__name__}: name a function(images, step)")
    unit, linear = getattr(found, "unit", "step"), getattr(found, "linear", False)
    return Transformation(name, str(unit), partial(_moved, name, found), linear=bool(linear))


def _moved(name: str, function: Callable[[Images, float], Any], images: Images, step: float) -> Images:
    """What a user's function makes of images; ParamsError if it fails, or gives other than as many finite numbers."""
    try:
        found = np.asarray(function(images.copy(), step))
    except (Exception, SystemExit) as fault:
        raise ParamsError(f"transformation {name!r} raises {type(fault).__name__}: {fault} ({place(fault)})") from fault
    if found.shape != images.shape or found.dtype.kind not in "fiub" or not np.isfinite(found).all():
        raise ParamsError(
            f"transformation {name!r} gives {found.dtype} of shape {found.shape} for images of shape {images.shape}: "
            f"it must give finite numbers of that shape"
        )
    return found
