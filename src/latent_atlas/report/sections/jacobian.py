"""The report on Jacobians: whose decoder is an immersion, and what precision has to do with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from latent_atlas.report import published
from latent_atlas.report.page import Picture, Section, table
from latent_atlas.study.manifolds import manifolds, pca_manifolds
from latent_atlas.study.schema import Params


def section(results: Path, params: Params) -> Section:
    """Ranks and singular values of the decoders' Jacobians at the examples."""
    folder = results / "jacobian"
    summary = pd.read_csv(folder / "examples.csv")
    sample = pd.read_csv(folder / "summary.csv")
    models = [name for name in manifolds(params) if name not in pca_manifolds(params)]
    first, *others = params.examples
    alike = published.comparable(params) and all(
        published.same_model(params, name) for name in published.JACOBIANS if name in params.models
    )
    dataset = params.dataset.name or "" if alike else ""
    return Section(
        "Jacobians and ranks",
        sentences=sentences(findings(summary[summary["manifold"].isin(models)], dataset)),
        tables=[_sample_table(sample, params), _table(summary, first)],
        pictures=[_spectra(folder, first)],
        folded=[_spectra(folder, example) for example in others],
    )


def _sample_table(sample: pd.DataFrame, params: Params) -> str:
    """Ranks and singular values over the sample."""
    number, short = "{:.0f}".format, "{:.3g}".format
    columns = {
        "latent_dim": ("k", number),
        "images": ("images", number),
        "full_rank_share": ("full rank", "{:.1%}".format),
        "rank_min": ("lowest rank", number),
        "sigma_max_median": ("σ max, median", short),
        "sigma_min_median": ("σ min, median", short),
        "sigma_ratio_min": ("σ min / σ max, lowest", short),
        "condition_number_median": ("condition, median", short),
    }
    frame = sample[["manifold", *columns]].rename(columns={key: head for key, (head, _) in columns.items()})
    caption = (
        f"Decoder Jacobians in float64 at {sample['images'].max()} images of the {params.sample.split} split. Full "
        f"rank: the share of the images at which the decoder is an immersion"
    )
    return table(frame, dict(columns.values()), caption)


def _spectra(folder: Path, example: str) -> Picture:
    return Picture.of(folder / f"spectra_{example}.svg", f"Singular values of the decoders' Jacobians at {example}.")


@dataclass(frozen=True)
class Findings:
    """What the ranks at the examples say.

    Attributes
    ----------
    examples : int
    immersions : list of str
        Manifolds whose decoder has full rank in float64 at all examples.
    lost : DataFrame
        ``manifold, example, rank, latent_dim``: where float64 finds a lower rank.
    rounding : DataFrame
        One row for each manifold whose rank is lower in float32 alone: ``manifold``, ``count`` of the examples, and of
        the one with the lowest rank ``example, rank_32, rank, latent_dim, sigma_min, rank_tolerance``.
    published : list of PublishedLoss
    """

    examples: int
    immersions: list[str]
    lost: pd.DataFrame
    rounding: pd.DataFrame
    published: list[PublishedLoss]


@dataclass(frozen=True)
class PublishedLoss:
    """What this run finds of a manifold whose rank the reference study found too low, in float32.

    ``ranks`` and ``ranks_32`` are the lowest and the highest over the examples; ``ratio`` is the smallest singular
    value over the largest, the lowest of all examples; ``tolerance_32`` is that of float32, in the same unit.
    """

    manifold: str
    latent_dim: int
    rank: int
    ranks: tuple[int, int]
    ranks_32: tuple[int, int]
    ratio: float
    tolerance_32: float


def findings(summary: pd.DataFrame, dataset: str) -> Findings:
    """Who has full rank everywhere, where single precision loses rank, and what became of the published loss."""
    exact = summary[summary["dtype"] == "float64"]
    rough = summary[summary["dtype"] == "float32"]
    full = (exact["rank"] == exact["latent_dim"]).groupby(exact["manifold"], sort=False).all()
    both = exact.merge(rough, on=["manifold", "example", "latent_dim"], suffixes=("", "_32"))
    lower = both[(both["rank_32"] < both["rank"]) & (both["rank"] == both["latent_dim"])]
    worst = lower.loc[lower.groupby("manifold", sort=False)["rank_32"].idxmin()]
    return Findings(
        exact["example"].nunique(),
        list(full[full].index),
        exact[exact["rank"] < exact["latent_dim"]][["manifold", "example", "rank", "latent_dim"]],
        worst.assign(count=worst["manifold"].map(lower["manifold"].value_counts())),
        _published(exact, rough) if dataset == published.DATASET else [],
    )


def _published(exact: pd.DataFrame, rough: pd.DataFrame) -> list[PublishedLoss]:
    found = []
    for name, (_, _, rank) in published.JACOBIANS.items():
        mine, single = exact[exact["manifold"] == name], rough[rough["manifold"] == name]
        if len(mine) and rank < mine["latent_dim"].iloc[0]:
            ranks, ranks_32 = ((int(rows["rank"].min()), int(rows["rank"].max())) for rows in (mine, single))
            ratio = float((mine["sigma_min"] / mine["sigma_max"]).min())
            tolerance = float((single["rank_tolerance"] / single["sigma_max"]).max())
            found.append(PublishedLoss(name, int(mine["latent_dim"].iloc[0]), rank, ranks, ranks_32, ratio, tolerance))
    return found


def sentences(found: Findings) -> list[str]:
    """The findings in words."""
    said = []
    if found.immersions:
        said.append(
            f"In float64 the decoder's Jacobian has full rank at {_every(found.examples)} for "
            f"{', '.join(found.immersions)}: there these decoders are immersions."
        )
    for name, rows in found.lost.groupby("manifold", sort=False):
        where = ", ".join(f"{row.rank} of {row.latent_dim} at {row.example}" for row in rows.itertuples())
        said.append(f"{name} loses rank also in float64: {where}.")
    for _, row in found.rounding.iterrows():
        said.append(
            f"In float32 {row['manifold']} has a lower rank at {row['count']} of {found.examples} examples (at "
            f"{row['example']} {row['rank_32']} of {row['latent_dim']}). Float64 finds {row['rank']}: the smallest "
            f"singular value {row['sigma_min']:.3g} is above the tolerance {row['rank_tolerance']:.2g}. This is "
            f"rounding, not a loss of rank."
        )
    return said + [_published_sentence(case) for case in found.published]


def _published_sentence(case: PublishedLoss) -> str:
    judged = (
        f"above what float64 resolves, and {'below' if case.ratio < case.tolerance_32 else 'above'} float32's "
        f"tolerance of {case.tolerance_32:.1g}."
        if case.ranks[0] == case.latent_dim
        else "below what float64 resolves, so that the loss of rank is real."
    )
    return (
        f"The reference study found rank {case.rank} of {case.latent_dim} for {case.manifold} in float32 and gave no "
        f"reason. Here {case.manifold} has {_span(case.ranks)} in float64 and {_span(case.ranks_32)} in float32 over "
        f"the examples. Its smallest singular value is at least {case.ratio:.1g} of the largest: {judged}"
    )


def _every(examples: int) -> str:
    return f"all {examples} examples" if examples > 1 else "the example"


def _span(ranks: tuple[int, int]) -> str:
    low, high = ranks
    return f"rank {low}" if low == high else f"ranks {low} to {high}"


def _table(summary: pd.DataFrame, example: str) -> str:
    here = summary[summary["example"] == example]
    exact = here[here["dtype"] == "float64"].set_index("manifold")
    rough = here[here["dtype"] == "float32"].set_index("manifold")
    frame = pd.DataFrame(
        {
            "manifold": exact.index,
            "k": exact["latent_dim"].to_list(),
            "σ max": exact["sigma_max"].to_list(),
            "σ min": exact["sigma_min"].to_list(),
            "condition": exact["condition_number"].to_list(),
            "log volume": exact["log_volume"].to_list(),
            "rank, float64": exact["rank"].to_list(),
            "rank, float32": rough["rank"].reindex(exact.index).to_list(),
        }
    )
    formats = {
        "k": "{:.0f}".format,
        "σ max": "{:.3g}".format,
        "σ min": "{:.3g}".format,
        "condition": "{:.3g}".format,
        "log volume": lambda value: f"{round(value, 1) + 0.0:.1f}",
        "rank, float64": "{:.0f}".format,
        "rank, float32": "{:.0f}".format,
    }
    caption = f"Decoder Jacobians at {example}, float64. Singular values carry the scale of the latent; ratios compare"
    return table(frame, formats, caption)
