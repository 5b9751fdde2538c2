"""The report on Jacobians: whose decoder is an immersion, and what precision has to do with it."""

from __future__ import annotations

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
    curved = [name for name in manifolds(params) if name not in pca_manifolds(params)]
    first, *others = params.examples
    alike = published.comparable(params) and all(
        published.same_model(params, name) for name in published.JACOBIANS if name in params.models
    )
    dataset = params.dataset.name if alike else ""
    return Section(
        "Jacobians and ranks",
        sentences=sentences(summary[summary["manifold"].isin(curved)], dataset),
        tables=[_sample_table(sample, params), _table(summary, first, dataset)],
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
        f"Decoder Jacobians in float64 at {params.sample.size} images of the {params.sample.split} split. Full rank: "
        f"the share of the images at which the decoder is an immersion"
    )
    return table(frame, dict(columns.values()), caption)


def _spectra(folder: Path, example: str) -> Picture:
    return Picture.of(folder / f"spectra_{example}.svg", f"Singular values of the decoders' Jacobians at {example}.")


def sentences(summary: pd.DataFrame, dataset: str) -> list[str]:
    """Who has full rank everywhere, where single precision loses rank, and what became of the published loss."""
    exact = summary[summary["dtype"] == "float64"]
    rough = summary[summary["dtype"] == "float32"]
    examples = exact["example"].nunique()
    full = (exact["rank"] == exact["latent_dim"]).groupby(exact["manifold"], sort=False).all()
    said = []
    if full.any():
        said.append(
            f"In float64 the decoder's Jacobian has full rank at {_every(examples)} for "
            f"{', '.join(full[full].index)}: there these decoders are immersions."
        )
    for name in full[~full].index:
        rows = exact[(exact["manifold"] == name) & (exact["rank"] < exact["latent_dim"])]
        where = ", ".join(f"{row['rank']} of {row['latent_dim']} at {row['example']}" for _, row in rows.iterrows())
        said.append(f"{name} loses rank also in float64: {where}.")
    both = exact.merge(rough, on=["manifold", "example", "latent_dim"], suffixes=("", "_32"))
    lost = both[(both["rank_32"] < both["rank"]) & (both["rank"] == both["latent_dim"])]
    for name, rows in lost.groupby("manifold", sort=False):
        worst = rows.loc[rows["rank_32"].idxmin()]
        said.append(
            f"In float32 {name} seems to lose rank at {len(rows)} of {examples} examples (at {worst['example']} "
            f"{worst['rank_32']} of {worst['latent_dim']}), yet float64 finds {worst['rank']}, with the smallest "
            f"singular value {worst['sigma_min']:.3g} above the tolerance {worst['rank_tolerance']:.2g}: "
            f"rounding, not a loss of rank."
        )
    if dataset == published.DATASET:
        said += _published_loss(exact, rough)
    return said


def _published_loss(exact: pd.DataFrame, rough: pd.DataFrame) -> list[str]:
    """What this run says of the ranks that the reference study found short, in single precision."""
    said = []
    for name, (_, _, rank) in published.JACOBIANS.items():
        mine = exact[exact["manifold"] == name]
        if not len(mine) or rank >= mine["latent_dim"].iloc[0]:
            continue
        k, single = mine["latent_dim"].iloc[0], rough[rough["manifold"] == name]
        weakest = mine.loc[(mine["sigma_min"] / mine["sigma_max"]).idxmin()]
        ratio = weakest["sigma_min"] / weakest["sigma_max"]
        tolerance = (single["rank_tolerance"] / single["sigma_max"]).max()
        judged = (
            f"far above what float64 resolves, and {'below' if ratio < tolerance else 'above'} float32's tolerance of "
            f"{tolerance:.1g}."
            if (mine["rank"] == k).all()
            else "below what float64 resolves, so that the loss of rank is real."
        )
        said.append(
            f"The reference study found rank {rank} of {k} for {name} in float32 and could not say why. Trained here, "
            f"{name} has {_span(mine['rank'])} in float64 and {_span(single['rank'])} in float32 over the examples. "
            f"Its smallest singular value is at least {ratio:.1g} of the largest: {judged}"
        )
    return said


def _every(examples: int) -> str:
    return f"all {examples} examples" if examples > 1 else "the example"


def _span(ranks: pd.Series) -> str:
    low, high = ranks.min(), ranks.max()
    return f"rank {low}" if low == high else f"ranks {low} to {high}"


def _table(summary: pd.DataFrame, example: str, dataset: str) -> str:
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
    if dataset == published.DATASET and example == published.EXAMPLE:
        known = published.JACOBIANS
        frame["published σ max"] = [known.get(name, (None,))[0] for name in exact.index]
        frame["published σ min"] = [known[name][1] if name in known else None for name in exact.index]
        frame["published rank"] = [known[name][2] if name in known else None for name in exact.index]
        formats |= {"published σ max": "{:.3g}".format, "published σ min": "{:.3g}".format}
        formats |= {"published rank": "{:.0f}".format}
    return table(frame, formats, caption)
