"""The convolutional autoencoder of the study.

Two plain convolutions shrink the image by ``kernel - 1`` pixels each, a third one as large as what is
left maps it to k numbers; the decoder takes the same way back with transposed convolutions.
Layer names are part of the interface: trained state dicts in the wild carry them.
"""

from __future__ import annotations

from torch import Tensor, nn

from latent_atlas.errors import ModelError
from latent_atlas.models.registry import NO_VARIANCES

KERNEL = 5  # side in pixels, unless the options say otherwise


class ConvolutionalEncoder(nn.Module):
    """Images (N, C, H, W) in [0, 1] to codes (N, k), through three convolutions without padding."""

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        latent_dim: int,
        widths: tuple[int, int],
        kernel: int,
        variational: bool,
    ) -> None:
        super().__init__()
        channels, height, width = input_shape
        wide, narrow = widths
        rest = (height - 2 * (kernel - 1), width - 2 * (kernel - 1))
        self.variational = variational
        self.econv1 = nn.Conv2d(channels, wide, kernel, bias=False)
        self.ebatch1 = nn.BatchNorm2d(wide)
        self.eact1 = nn.ELU()
        self.econv2 = nn.Conv2d(wide, narrow, kernel, bias=False)
        self.ebatch2 = nn.BatchNorm2d(narrow)
        self.eact2 = nn.ELU()
        self.econv3 = nn.Conv2d(narrow, latent_dim, rest)
        self.eact3 = nn.Identity() if variational else nn.ELU()
        if variational:
            self.elogvar = nn.Conv2d(narrow, latent_dim, rest)
        self.flatten = nn.Flatten()

    def hidden(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) to the last hidden layer."""
        x = self.eact1(self.ebatch1(self.econv1(x)))  # N x 32 x 24 x 24 for a 28 x 28 image
        return self.eact2(self.ebatch2(self.econv2(x)))  # N x 8 x 20 x 20

    def forward(self, x: Tensor) -> Tensor:
        return self.flatten(self.eact3(self.econv3(self.hidden(x))))  # N x k

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Means and log-variances of the codes, (N, k) each."""
        if not self.variational:
            raise ModelError(NO_VARIANCES)
        hidden = self.hidden(x)  # N x 8 x 20 x 20
        return self.flatten(self.econv3(hidden)), self.flatten(self.elogvar(hidden))


class ConvolutionalDecoder(nn.Module):
    """Codes (N, k) to images (N, C, H, W) in [0, 1]: the encoder's way back, by transposed convolutions."""

    def __init__(
        self, input_shape: tuple[int, int, int], latent_dim: int, widths: tuple[int, int], kernel: int
    ) -> None:
        super().__init__()
        channels, height, width = input_shape
        wide, narrow = widths
        rest = (height - 2 * (kernel - 1), width - 2 * (kernel - 1))
        self.unflatten = nn.Unflatten(1, (latent_dim, 1, 1))
        self.dconv1 = nn.ConvTranspose2d(latent_dim, narrow, rest)
        self.dbatch1 = nn.BatchNorm2d(narrow)
        self.dact1 = nn.ELU()
        self.dconv2 = nn.ConvTranspose2d(narrow, wide, kernel, bias=False)
        self.dbatch2 = nn.BatchNorm2d(wide)
        self.dact2 = nn.ELU()
        self.dconv3 = nn.ConvTranspose2d(wide, channels, kernel, bias=False)
        self.dact3 = nn.Sigmoid()

    def forward(self, z: Tensor) -> Tensor:
        z = self.unflatten(z)  # N x k x 1 x 1
        x = self.dact1(self.dbatch1(self.dconv1(z)))  # N x 8 x 20 x 20
        x = self.dact2(self.dbatch2(self.dconv2(x)))  # N x 32 x 24 x 24
        return self.dact3(self.dconv3(x))  # N x C x 28 x 28


class ConvolutionalAutoencoder(nn.Module):
    """Convolutional autoencoder.

    Parameters
    ----------
    input_shape : (C, H, W)
        Shape of one image.
    latent_dim : int
        k, the number of latent coordinates.
    widths : (int, int)
        Channels after the first and the second convolution.
    kernel : int
        Side of the first two kernels in pixels; the image must be larger than ``2 * (kernel - 1)``.
    variational : bool
        Whether the encoder, whose codes are then the means, has log-variances beside them: :meth:`posterior`.

    Raises
    ------
    ModelError
        If the image is too small for two convolutions of this kernel.
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        latent_dim: int,
        widths: tuple[int, int] = (32, 8),
        kernel: int = KERNEL,
        variational: bool = False,
    ) -> None:
        super().__init__()
        shrink = 2 * (kernel - 1)
        if min(input_shape[1:]) <= shrink:
            raise ModelError(
                f"two {kernel}x{kernel} convolutions take {shrink} pixels from each side, "
                f"but the images are {input_shape[1]}x{input_shape[2]}: "
                f"choose a smaller 'kernel' for this model, or larger images"
            )
        self.encoder = ConvolutionalEncoder(input_shape, latent_dim, widths, kernel, variational)
        self.decoder = ConvolutionalDecoder(input_shape, latent_dim, widths, kernel)

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x))

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Means and log-variances (N, k) of the codes of images (N, C, H, W); ModelError if it is not variational."""
        return self.encoder.posterior(x)


__all__ = ["ConvolutionalAutoencoder"]
