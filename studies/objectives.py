"""The models of a finished study compared by the geometry of their surfaces: `python studies/objectives.py FOLDER`.

Prints one row for each model, in Markdown. All but the test error is measured at the first images of the sample:

- encoder gap: by how much the closest point of the surface reduces the error of decode(encode(x));
- distortion: k E[tr H²] / E[tr H]² of the decoder's metric H, which is 1 for a scaled isometry;
- effective rank: exp of the entropy of the normalized singular values (Roy & Vetterli 2007), mean over images;
- line: length of the decoded line between the codes of two images over the distance of its ends, mean over pairs;
- score: how far displacements lie in the tangent space (0 chance, 1 wholly), mean over all but brightness;
- shared: mean squared cosine of the principal angles to the tangent space of the first model, and to PCA.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import torch

from latent_atlas import Images, Manifold, interpolate, load
from latent_atlas.data.images import as_float
from latent_atlas.data.samples import stratified
from latent_atlas.geometry.agreement import agreement, orthonormal_bases
from latent_atlas.models.closest import closest
from latent_atlas.study import manifolds, schema

COUNT, PAIRS = 100, 20


def row(surface: Manifold, x: torch.Tensor) -> dict[str, float]:
    """What is measured of one surface at images (N, C, H, W)."""
    codes = surface.encode(x)
    metric = surface.metric(codes)  # N x k x k
    values = torch.linalg.eigvalsh(metric).clamp(min=0).sqrt()  # N x k
    shares = values / values.sum(1, keepdim=True)
    nearest = closest(surface.decode, x, surface.latent_dim)
    errors = [(surface.decode(z) - x).square().flatten(1).mean(1) for z in (codes, nearest)]
    paths = [interpolate(surface, x[i : i + 1], x[-1 - i : len(x) - i], 50) for i in range(PAIRS)]
    return {
        "encoder gap": float(1 - torch.minimum(*errors).mean() / errors[0].mean()),
        "distortion": float(surface.latent_dim * values.pow(4).sum(1).mean() / values.pow(2).sum(1).mean() ** 2),
        "effective rank": float((-(shares * shares.log()).nansum(1)).exp().mean()),
        "line": sum(path.length / path.straight_distance for path in paths) / PAIRS,
    }


def main(folder: Path) -> None:
    params = schema.load(folder / "params.yaml")
    data = Images.load(folder / "data/images.safetensors")
    chosen = stratified(data.labels("test"), COUNT, 0)
    x = as_float(data.test[chosen], torch.float64)
    angles = pd.read_csv(folder / "results/invariance/summary.csv")
    score = angles[angles["transformation"] != "brightness"].groupby("model")["score_mean"].mean()
    errors = pd.read_csv(folder / "results/reconstruct/summary.csv").query("split == 'test'").set_index("manifold")
    names = [name for name in manifolds.manifolds(params) if not name.endswith("_uncentred")]
    surfaces = {name: load(folder / f"results/checkpoints/{name}.safetensors").to(torch.float64) for name in names}
    bases = {name: orthonormal_bases(surface.jacobian(surface.encode(x))) for name, surface in surfaces.items()}
    rows = {}
    for name, surface in surfaces.items():
        shared = {f"shared, {other}": float(agreement(bases[name], bases[other]).shared.mean()) for other in
                  (names[0], names[-1])}  # fmt: skip
        rows[name] = {"test error": errors["mse"][name], **row(surface, x), "score": score[name], **shared}
    table = pd.DataFrame(rows).T
    heads = ["model", *table.columns]
    print("| " + " | ".join(heads) + " |\n|" + "---|" * len(heads))
    for name, line in table.iterrows():
        print(f"| {name} | " + " | ".join(f"{value:.3g}" for value in line) + " |")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
