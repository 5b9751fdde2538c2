"""A variational autoencoder in plain torch, trained on handwritten digits and measured by Latent Atlas."""

import sys

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

import latent_atlas

PIXELS, LATENT_DIM = 64, 4


class VAE(nn.Module):
    """Kingma and Welling, "Auto-Encoding Variational Bayes" (2014). It knows nothing of Latent Atlas."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, 64), nn.ELU())
        self.mean, self.log_variance = nn.Linear(64, LATENT_DIM), nn.Linear(64, LATENT_DIM)
        self.generator = nn.Sequential(nn.Linear(LATENT_DIM, 64), nn.ELU(), nn.Linear(64, PIXELS), nn.Sigmoid())

    def encode(self, x):
        hidden = self.body(x)  # N x 64
        return self.mean(hidden), self.log_variance(hidden)  # N x k each

    def decode(self, z):
        return self.generator(z).reshape(-1, 1, 8, 8)  # N x 1 x 8 x 8

    def loss(self, x):
        """Negative evidence lower bound of an image, in nats."""
        mean, log_variance = self.encode(x)
        z = mean + torch.randn_like(mean) * (log_variance / 2).exp()
        error = functional.binary_cross_entropy(self.decode(z), x, reduction="sum")
        divergence = (mean.square() + log_variance.exp() - log_variance - 1).sum() / 2
        return (error + divergence) / len(x)


def train(images, epochs):
    torch.manual_seed(0)
    model = VAE()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(epochs):
        for batch in torch.randperm(len(images)).split(128):
            optimizer.zero_grad()
            loss = model.loss(images[batch])
            loss.backward()
            optimizer.step()
    print(f"loss of the last batch: {loss.item():.1f} nats an image")
    return model.eval()


digits = torch.tensor(load_digits().images / 16, dtype=torch.float32)[:, None]  # N x 1 x 8 x 8, in [0, 1]
model = train(digits[:1500], epochs=int(sys.argv[1]) if len(sys.argv) > 1 else 60)

# The two functions are all that is asked for; the code of an image is the mean of its distribution.
surface = latent_atlas.Autoencoder.from_functions(
    lambda net, x: net.encode(x)[0],
    lambda net, z: net.decode(z),
    latent_shape=(LATENT_DIM,),
    image_shape=(1, 8, 8),
    model=model,
)
test = digits[1500:]
error = (surface.reconstruct(test) - test).square().mean()
print(f"mean squared error of a pixel: {error:.4f}")

spectra = latent_atlas.spectra(surface, test)
print(f"rank {spectra['rank'].min()} to {spectra['rank'].max()} of {LATENT_DIM} at {len(test)} images")

angles = latent_atlas.angles(surface, test, ["rotation", "shift_x", "brightness"])
print("angle to the tangent space, median in degrees:")
print(angles.groupby("transformation")["angle_deg"].median().round(1).to_string())
