"""Images of many pixels: what is computed of them stays in blocks. A matrix of P x P would not fit into the limit.

Nor would the Jacobian of a decoder of many coordinates.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import torch
from torch import nn

from latent_atlas.geometry import layers, paths, pca, reconstruction
from latent_atlas.geometry.manifold import Autoencoder
from latent_atlas.geometry.tangent_spaces import measure
from latent_atlas.geometry.transformations import TRANSFORMATIONS

def peak():  # GiB
    (line,) = (line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return int(line.split()[1]) / 2**20

SHAPE, P = (3, 128, 96), 36864  # a matrix of P x P is 10 GiB in float64
torch.manual_seed(0)
pixels = torch.randint(0, 256, (150, *SHAPE), dtype=torch.uint8)
decoder = nn.Sequential(nn.Linear(8, 16), nn.ELU(), nn.Linear(16, P), nn.Sigmoid(), nn.Unflatten(1, SHAPE))
encoder = nn.Sequential(nn.Flatten(), nn.Linear(P, 8))
surface = Autoencoder(nn.ModuleDict({"encoder": encoder, "decoder": decoder}), 8, SHAPE)
convolution = nn.Conv2d(3, 4, 3).double()
done = {
    "start": lambda: None,
    "pca": lambda: pca.fit(pixels, 8),
    "nearest images": lambda: paths.distance_to_nearest(pixels[:4] / 255, pixels),
    "reconstructions": lambda: reconstruction.errors(surface, pixels[:60]),
    "tangent spaces": lambda: measure(surface, pixels[:6], {"blur": (TRANSFORMATIONS["blur"], 1.0)}),
    "layers": lambda: layers.operator_spectrum(convolution, SHAPE, (4, 126, 94)),
}
for name, work in done.items():
    work()
    print(name, peak(), sep="=")
pca.LARGEST = 100
done["pca"]()
print("pca by iterations", peak(), sep="=")
"""

COORDINATES = """
import sys
import torch
from latent_diffusion import LatentDiffusion

from latent_atlas.geometry.manifold import Autoencoder
from latent_atlas.geometry.tangent_spaces import measure
from latent_atlas.geometry.transformations import TRANSFORMATIONS

def peak():  # GiB
    (line,) = (line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return int(line.split()[1]) / 2**20

torch.manual_seed(0)
network = LatentDiffusion((3, 32, 32), channels=(8, 8, 8), groups=4)
surface = Autoencoder(network, 3072, (3, 128, 128))  # a Jacobian is 1.1 GiB in float64
image = torch.randint(0, 256, (1, 3, 128, 128), dtype=torch.uint8)
print(peak())
found = measure(surface, image, {"rotation": (TRANSFORMATIONS["rotation"], 1.0)}, products=25)
print(peak())
print(len(found.limits), found.limits[0].spectrum.products, float(found.angles_deg))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from Linux's /proc")
def test_large_images_are_measured_in_blocks() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    peaks = {name: float(value) for name, value in (line.split("=") for line in done.stdout.splitlines())}
    start = peaks.pop("start")
    grown = {name: round(value - start, 2) for name, value in peaks.items()}
    assert len(grown) == 6
    assert max(grown.values()) < 0.7, grown


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from Linux's /proc")
def test_many_coordinates_are_measured_by_products() -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", COORDINATES], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    start, end, found = done.stdout.splitlines()
    assert float(end) - float(start) < 0.5
    count, products, angle = found.split()
    assert (int(count), int(products)) == (1, 25 + 25 + 1 + 2 + 2 + 1)
    assert 0 < float(angle) < 90
