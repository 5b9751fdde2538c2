"""Codes that a model has learned for its images, one for each, found again by the content of an image.

Bojanowski et al., "Optimizing the Latent Space of Generative Networks" (2018); Park et al., "DeepSDF" (2019).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from latent_atlas.data.sources.arrays import unusual_kind
from latent_atlas.errors import CheckpointError

DIGEST = 16  # bytes of a checksum
NEAR = 0.01  # how far from a whole number a pixel may be, in 255ths


class GivenCodes(nn.Module):
    """Codes of images that are recognized by the checksums of their bytes.

    Parameters
    ----------
    codes : tensor (N, k)
    images : uint8 tensor (N, 16)
        Checksums: see :func:`checksums`. Of equal images the first counts.

    Raises
    ------
    CheckpointError
        If they are of other shapes.
    """

    codes: Tensor
    images: Tensor

    def __init__(self, codes: Tensor, images: Tensor) -> None:
        super().__init__()
        if codes.ndim != 2 or images.dtype != torch.uint8 or images.shape != (len(codes), DIGEST):
            raise CheckpointError(
                f"codes of shape {tuple(codes.shape)} and checksums of shape {tuple(images.shape)} do not fit each "
                f"other: import the model again"
            )
        self.register_buffer("codes", codes)
        self.register_buffer("images", images)
        self.rows: dict[bytes, int] = {}
        for row, digest in enumerate(images.cpu().numpy()):
            self.rows.setdefault(digest.tobytes(), row)

    @classmethod
    def of(cls, pairs: Mapping[str, tuple[Tensor, Any]], latent_dim: int) -> GivenCodes:
        """Codes of images, by what messages call them.

        Parameters
        ----------
        pairs : mapping of str to (images, codes)
            uint8 images (N, C, H, W), and a tensor or an array of N codes of any shape with k numbers.
        latent_dim : int
            k.

        Raises
        ------
        CheckpointError
            If there are not as many codes as images, or a code has other than k numbers or one that is not finite.
        """
        codes = []
        for name, (images, given) in pairs.items():
            numbers = _tensor(name, given)
            if images.dtype != torch.uint8 or images.ndim != 4:
                raise CheckpointError(f"{name}: images of codes must be uint8 of shape N x C x H x W")
            if len(numbers) != len(images) or math.prod(numbers.shape[1:]) != latent_dim:
                raise CheckpointError(
                    f"{name} has the shape {' x '.join(map(str, numbers.shape))}; needed: a code of {latent_dim} "
                    f"numbers (latent_dim) for each of {len(images)} images, in their order"
                )
            if not numbers.is_floating_point() or not bool(numbers.isfinite().all()):
                kind = "numbers that are not finite" if numbers.is_floating_point() else f"{numbers.dtype}"
                raise CheckpointError(f"{name} holds {kind}; needed: finite floating-point numbers")
            wide = torch.promote_types(numbers.dtype, torch.float32)
            codes.append(numbers.detach().to(wide).flatten(1))  # N x k
        return cls(torch.cat(codes), torch.cat([checksums(images) for images, _ in pairs.values()]))

    def of_known(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Which of some images (N, C, H, W) in [0, 1] have a code, a mask (N,), and the codes (n, k) of those."""
        scaled = x.detach().double() * 255
        pixels = scaled.round()
        bytes_ = ((scaled - pixels).abs() <= NEAR) & (pixels >= 0) & (pixels <= 255)
        found = [self.rows.get(digest.tobytes(), -1) for digest in checksums(pixels.to(torch.uint8)).numpy()]
        rows = torch.tensor(found, device=x.device, dtype=torch.int64)
        known = (rows >= 0) & bytes_.flatten(1).all(1)
        return known, self.codes[rows[known]].to(x)


def _tensor(name: str, given: Any) -> Tensor:
    """Codes as a dense tensor; CheckpointError if they are none."""
    if not isinstance(given, Tensor):
        array = np.asarray(given)
        try:
            return torch.from_numpy(np.array(array, array.dtype.newbyteorder("=")))
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"{name} holds {array.dtype}; needed: finite floating-point numbers") from error
    if unusual := unusual_kind(given):
        raise CheckpointError(f"{name} is {unusual}; needed: finite floating-point numbers, each by itself")
    return given


def checksums(images: Tensor) -> Tensor:
    """Checksums (N, 16) of uint8 images (N, C, H, W)."""
    digests = (
        hashlib.blake2b(image.tobytes(), digest_size=DIGEST).digest()
        for part in images.split(1000)
        for image in part.cpu().numpy()
    )
    return torch.from_numpy(np.frombuffer(b"".join(digests), np.uint8).reshape(-1, DIGEST).copy())
