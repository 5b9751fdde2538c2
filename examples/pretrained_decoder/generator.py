"""The decoder, as its authors wrote it: codes to images, and no encoder."""

from torch import nn


class Generator(nn.Module):
    """Codes N x k to images N x 1 x 8 x 8. Latent Atlas calls the class with the shape of an image and k."""

    def __init__(self, input_shape, latent_dim):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(latent_dim, 32 * 4), nn.Unflatten(1, (32, 2, 2)), nn.GroupNorm(4, 32), nn.SiLU(),
            nn.ConvTranspose2d(32, 16, 4, stride=2, padding=1), nn.GroupNorm(4, 16), nn.SiLU(),
            nn.ConvTranspose2d(16, input_shape[0], 4, stride=2, padding=1), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, z):
        return self.net(z)
