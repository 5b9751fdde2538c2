"""pca: the principal components of the training images, and the manifolds they span."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from latent_atlas.command import log
from latent_atlas.data.images import Images
from latent_atlas.errors import counted
from latent_atlas.files import write_tables
from latent_atlas.geometry import reconstruction
from latent_atlas.geometry.pca import PrincipalComponents, fit
from latent_atlas.models.checkpoints import NAME
from latent_atlas.report.figures.pca import plot_pca
from latent_atlas.report.figures.style import save
from latent_atlas.study.manifolds import pca_manifolds
from latent_atlas.training.loop import mean_image_error

if TYPE_CHECKING:
    from latent_atlas.study.schema import Params


def pca(params: Params, images: Path, folder: Path, checkpoints: Path) -> None:
    """Fit PCA to the training images in float64 and write its manifolds."""
    data = Images.load(images)
    log.info(f"fitting {counted(len(data.train), 'image')}")
    principal = fit(data.train, max(params.pca.latent_dims))
    wanted = {name: principal.subspace(k, centred) for name, (k, centred) in pca_manifolds(params).items()}
    share = principal.variance / principal.total_variance
    table = pd.DataFrame(
        {
            "component": range(1, len(share) + 1),
            "variance": principal.variance,
            "variance_share": share,
            "cumulative_share": share.cumsum(0),
        }
    )
    principal.save(folder / "components.safetensors")
    write_tables(folder, {"summary.csv": table, "baselines.csv": errors_of_baselines(principal, data)})
    save(plot_pca(table, sorted(params.pca.latent_dims)), folder / "spectrum.svg")
    for name, subspace in wanted.items():
        subspace.save(checkpoints / f"{name}.safetensors", {NAME: name})
    log.info(f"{len(share)} components; manifolds: {', '.join(wanted)}")


def errors_of_baselines(principal: PrincipalComponents, data: Images) -> pd.DataFrame:
    """Mean squared errors on the test images of the mean training image and of a single component.

    A model that reconstructs no better than these has learned nothing.
    """
    one = reconstruction.summary(principal.subspace(1, centred=True), data.test)["mse"]
    return pd.DataFrame({"baseline": ["mean image", "one component"], "test_mse": [mean_image_error(data), one]})
