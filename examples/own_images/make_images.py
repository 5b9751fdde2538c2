"""Stands for the images that you already have: 300 coloured squares and discs, as PNG files in the folder images."""

from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 32  # pixels
draw = np.random.default_rng(0)
y, x = np.mgrid[:SIDE, :SIDE]
for number in range(300):
    shape = ("square", "disc")[number % 2]
    (cx, cy), radius = draw.uniform(10, 22, 2), draw.uniform(4, 9)
    distance = np.maximum(abs(x - cx), abs(y - cy)) if shape == "square" else np.hypot(x - cx, y - cy)  # H x W
    inside = np.clip(radius + 0.5 - distance, 0, 1)[..., None]  # H x W x 1, with soft edges
    colour, background = draw.uniform(0.4, 1, 3), draw.uniform(0, 0.3, 3)
    pixels = inside * colour + (1 - inside) * background  # H x W x C
    path = Path("images", shape, f"{number:03}.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((255 * pixels).astype(np.uint8)).save(path)
print("300 images in the folder images")
