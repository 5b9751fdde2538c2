"""The report on tangents: the directions that the decoders offer at one image."""

from __future__ import annotations

from pathlib import Path

from latent_atlas.report.page import Picture, Section
from latent_atlas.study.manifolds import compared, firsts, groups, pca_manifolds
from latent_atlas.study.schema import Params

TITLE = "Tangent vectors"


def section(results: Path, params: Params) -> Section:
    """Galleries of tangent vectors: of the first manifold of each group openly, of the others folded."""
    folder = results / "tangents"
    example = params.tangents.example
    open_ones = {names[0] for names in groups(params).values()}
    shown, folded = [], []
    for name in firsts(params):
        entry = params.models.get(name)
        directions = entry.latent_dim if entry else pca_manifolds(params)[name][0]
        pictures = [
            Picture(
                folder / name / "singular_vectors.png",
                f"{name}: an orthonormal basis of its tangent space.",
                alt=f"{directions} pictures of {example} in red and blue, one for each left singular vector.",
            ),
            Picture(
                folder / name / "columns.png",
                f"{name}: the columns of its Jacobian.",
                alt=f"{directions} pictures of {example} in red and blue, one for each latent coordinate.",
            ),
        ]
        open_here = name in open_ones and name in compared(params)
        shown += pictures[:1] if open_here else []
        folded += pictures[1:] if open_here else pictures
    said = (
        f"Each picture is a direction in which a decoder can move {example}: red brightens, blue darkens. The "
        f"columns of a Jacobian belong to single latent coordinates; its left singular vectors are an orthonormal "
        f"basis of the same space, the strongest direction first. All pictures of one gallery share one scale."
    )
    return Section(TITLE, [said], [], shown, folded)
