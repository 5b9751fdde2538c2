"""Stands for the weights that you already have: trains the generator together with one code for each image.

Bojanowski et al., "Optimizing the Latent Space of Generative Networks" (2018).
"""

import sys

import torch
from generator import Generator
from sklearn.datasets import load_digits

images = torch.tensor(load_digits().images[:1500] / 16, dtype=torch.float32)[:, None]  # N x 1 x 8 x 8, in [0, 1]
torch.manual_seed(0)
model = Generator((1, 8, 8), 4)
codes = torch.randn(len(images), 4, requires_grad=True)
optimizer = torch.optim.Adam([{"params": model.parameters(), "lr": 3e-3}, {"params": [codes], "lr": 3e-2}])
for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 60):
    for batch in torch.randperm(len(images)).split(128):
        optimizer.zero_grad()
        error = (model(codes[batch]) - images[batch]).square().mean()
        (error + 1e-3 * codes[batch].square().mean()).backward()
        optimizer.step()
print(f"mean squared error of a pixel: {error.item():.4f}")
torch.save(model.state_dict(), "generator.pth")
