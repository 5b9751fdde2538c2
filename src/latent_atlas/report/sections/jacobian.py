"""The report on Jacobians: whose decoder is an immersion, and what precision has to do with it."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from latent_atlas.files import read_table
from latent_atlas.report import published
from latent_atlas.report.findings import Finding, Sentence
from latent_atlas.report.intervals import ranged, scope
from latent_atlas.report.page import Picture, Section, Table, extremes, table
from latent_atlas.report.plots import spectrum_bands
from latent_atlas.study.manifolds import firsts, groups, pca_manifolds
from latent_atlas.study.schema import Params

TITLE = "Jacobians and ranks"


def section(results: Path, params: Params) -> Section:
    """Ranks and singular values of the decoders' Jacobians at the examples."""
    folder = results / "jacobian"
    summary = read_table(folder / "examples.csv")
    sample = read_table(folder / "summary.csv")
    summary = summary[summary["manifold"].isin(firsts(params))]
    first, *others = params.examples
    alike = published.comparable(params) and all(
        published.same_model(params, name) for name in published.JACOBIANS if name in params.models
    )
    dataset = params.dataset.name or "" if alike else ""
    linear = pca_manifolds(params)
    bands = read_table(folder / "bands.csv")
    charts = spectrum_bands(bands, groups(params))
    verdicts = read_table(results / "layers" / "summary.csv")
    undetermined = verdicts[(verdicts["property"] == "immersion") & (verdicts["verdict"] == "undetermined")]
    return Section(
        TITLE,
        sentences=[
            *immersion_sentences(
                sample[~sample["model"].isin(linear)], set(undetermined["model"]), params.sample.split
            ),
            *sentences(findings(summary[summary["manifold"].isin(params.models)], dataset)),
        ],
        tables=[
            _sample_table(sample, params).of(folder / "summary.csv"),
            _table(summary, first).of(folder / "examples.csv"),
        ],
        pictures=[
            Picture(
                folder / "bands.svg",
                "Singular values of the decoders' Jacobians per standard deviation of the code, over the sample.",
                alt=spectra_in_words(bands),
                plots=tuple(chart.to_dict() for chart in charts.values()),
            ),
            _spectra(folder, first, summary),
        ],
        folded=[_spectra(folder, example, summary) for example in others],
    )


def rounded_down(share: float) -> float:
    """A lower limit in whole tenths of a percent, so that what is said of it still holds."""
    return math.floor(1000 * share) / 1000


def immersion_sentences(sample: pd.DataFrame, undetermined: Collection[str], split: str) -> list[str]:
    """Whose decoder is an immersion at all images of the sample, and what the weights alone left open."""
    said: list[str] = []
    full = sample[sample["full_rank_share"] == 1]
    if len(full):
        worst = full.loc[full["sigma_ratio_min"].idxmin()]
        said.append(
            Sentence(
                "In float64 the decoder's Jacobian has full rank {}",
                [
                    Finding(
                        "full rank",
                        f"at all {{images:,}} images of the {split} split for {{subject}}: there these decoders are "
                        "immersions. With 95% confidence the share of such images is at least {low:.1%}.",
                        subject=", ".join(full["model"]),
                        value=1.0,
                        low=rounded_down(full["full_rank_share_low"].min()),
                        high=1.0,
                        relation="immersion",
                        facts={"images": int(full["images"].max())},
                    ),
                    Finding(
                        "smallest ratio of singular values",
                        "The smallest σ min / σ max met is {value:.2g} ({subject}).",
                        worst["model"],
                        float(worst["sigma_ratio_min"]),
                    ),
                ],
                " ",
            )
        )
    for _, row in sample[sample["full_rank_share"] < 1].iterrows():
        lost = Finding.ranged(
            "full rank",
            row,
            "full_rank_share",
            ".1%",
            "The decoder of {subject} has full rank at {} of {images:,} images; its lowest rank is {rank} of {k}.",
            relation="no immersion",
            facts={"images": int(row["images"]), "rank": int(row["rank_min"]), "k": int(row["latent_dim"])},
        )
        said.append(Sentence("{}", [lost]))
    if unknown := list(sample.loc[sample["full_rank_share"].isna(), "model"]):
        said.append(
            f"Whether the decoder of {', '.join(unknown)} is an immersion is not determined: there are too many "
            "coordinates to measure all directions, and no lower limit of the smallest singular value is known. Some "
            "products with each Jacobian give the largest singular values; the tables have the bound of each."
        )
    answered = [model for model in full["model"] if model in undetermined]
    if answered:
        said.append(f"The weights alone leave this open for {', '.join(answered)}; at these images it is so.")
    return said


def _sample_table(sample: pd.DataFrame, params: Params) -> Table:
    """Ranks and scale-free spectra over the sample."""
    whole, short = "{:.0f}".format, "{:.3g}".format
    columns = {
        "full_rank_share": ("full rank", "{:.1%}".format),
        "effective_rank_per_sd_mean": ("effective rank, mean", "{:.1f}".format),
        "participation_ratio_per_sd_mean": ("participation ratio, mean", "{:.1f}".format),
        "condition_number_per_sd_median": ("condition, median", short),
        "sigma_max_per_sd_median": ("σ max, median", short),
        "sigma_min_per_sd_median": ("σ min, median", short),
    }
    frame = sample[["model", "latent_dim", "seeds", "rank_min", "sigma_ratio_min"]].rename(
        columns={"latent_dim": "k", "seeds": "trainings", "rank_min": "lowest rank",
                 "sigma_ratio_min": "σ min / σ max, lowest"}
    )  # fmt: skip
    frame["trainings"] = frame["trainings"].mask(frame["model"].isin(pca_manifolds(params)))
    for column, (head, written) in columns.items():
        frame[head] = [ranged(row, column, written) for _, row in sample.iterrows()]
    formats = {"k": whole, "trainings": whole, "lowest rank": whole, "σ min / σ max, lowest": short}
    caption = (
        f"Decoder Jacobians in float64 at {sample['images'].max()} images of the {params.sample.split} split. Full "
        f"rank: the share of the images at which the decoder is an immersion. From the effective rank on, per standard "
        f"deviation of the code over the training images, which makes models comparable. "
        f"{scope(sample, pca_manifolds(params))}"
    )
    return table(frame, formats, caption)


def spectra_in_words(bands: pd.DataFrame) -> str:
    """What the figure of the spectra over the sample shows."""
    number = "{:.3g}".format
    largest = extremes(bands[bands["order"] == 1], "median", number, "model")
    last = bands[bands["order"] == bands.groupby("model")["order"].transform("max")]
    return (
        f"Falling curves of {bands['model'].nunique()} models with bands. The first singular value, median: {largest}; "
        f"the last one: {extremes(last, 'median', number, 'model')}."
    )


def _spectra(folder: Path, example: str, summary: pd.DataFrame) -> Picture:
    here = summary[(summary["example"] == example) & (summary["dtype"] == "float64")]
    alt = (
        f"Falling curves of {len(here)} manifolds in float64 and float32, with the tolerance of each. In float64 "
        f"σ max: {extremes(here, 'sigma_max', '{:.3g}'.format, 'manifold')}; σ min: "
        f"{extremes(here, 'sigma_min', '{:.3g}'.format, 'manifold')}."
    )
    caption = f"Singular values of the decoders' Jacobians at {example}."
    return Picture(folder / f"spectra_{example}.svg", caption, alt=alt)


@dataclass(frozen=True)
class Findings:
    """What the ranks at the examples say.

    Attributes
    ----------
    examples : int
    lost : DataFrame
        ``manifold, example, rank, latent_dim``: where float64 finds a lower rank.
    rounding : DataFrame
        One row for each manifold whose rank is lower in float32 alone: ``manifold``, ``count`` of the examples, and of
        the one with the lowest rank ``example, rank_32, rank, latent_dim, sigma_min, rank_tolerance``.
    published : list of PublishedLoss
    """

    examples: int
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
    """Where rank is lost, where single precision alone loses it, and what became of the published loss."""
    exact = summary[summary["dtype"] == "float64"]
    rough = summary[summary["dtype"] == "float32"]
    both = exact.merge(rough, on=["manifold", "example", "latent_dim"], suffixes=("", "_32"))
    lower = both[(both["rank_32"] < both["rank"]) & (both["rank"] == both["latent_dim"])]
    worst = lower.loc[lower.groupby("manifold", sort=False)["rank_32"].idxmin()]
    return Findings(
        exact["example"].nunique(),
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


def sentences(found: Findings) -> list[Sentence]:
    """The findings in words."""
    said = []
    for name, rows in found.lost.groupby("manifold", sort=False):
        where = [
            Finding(
                "rank in float64",
                ("" if place else "{subject} loses rank also in float64: ") + "{value} of {k} at {example}",
                str(name),
                int(row.rank),
                unit="dimensions",
                facts={"k": int(row.latent_dim), "example": row.example},
            )
            for place, row in enumerate(rows.itertuples())
        ]
        said.append(Sentence("{}.", where))
    for _, row in found.rounding.iterrows():
        facts = {
            "examples": found.examples,
            "count": int(row["count"]),
            "example": row["example"],
            "k": int(row["latent_dim"]),
            "rank": int(row["rank"]),
            "sigma_min": float(row["sigma_min"]),
            "tolerance": float(row["rank_tolerance"]),
        }
        of_float32 = Finding(
            "rank in float32",
            "In float32 {subject} has a lower rank at {count} of {examples} examples (at {example} {value} of {k}). "
            "Float64 finds {rank}: the smallest singular value {sigma_min:.3g} is above the tolerance "
            "{tolerance:.2g}. This is rounding, not a loss of rank.",
            row["manifold"],
            int(row["rank_32"]),
            unit="dimensions",
            facts=facts,
        )
        said.append(Sentence("{}", [of_float32]))
    return said + [_published_sentence(case) for case in found.published]


def _published_sentence(case: PublishedLoss) -> Sentence:
    judged = (
        "above what float64 resolves, and {side} float32's tolerance of {tolerance:.1g}."
        if case.ranks[0] == case.latent_dim
        else "below what float64 resolves, so that the loss of rank is real."
    )
    words = (
        "The reference study found rank {published} of {k} for {subject} in float32 and gave no reason. Here {subject} "
        "has {ranks} in float64 and {ranks_32} in float32 over the examples. Its smallest singular value is at least "
        "{value:.1g} of the largest: "
    )
    facts = {
        "published": case.rank,
        "k": case.latent_dim,
        "ranks": _span(case.ranks),
        "ranks_32": _span(case.ranks_32),
        "side": "below" if case.ratio < case.tolerance_32 else "above",
        "tolerance": case.tolerance_32,
    }
    return Sentence("{}", [Finding("published rank", words + judged, case.manifold, case.ratio, facts=facts)])


def _span(ranks: tuple[int, int]) -> str:
    low, high = ranks
    return f"rank {low}" if low == high else f"ranks {low} to {high}"


def _table(summary: pd.DataFrame, example: str) -> Table:
    here = summary[summary["example"] == example]
    exact = here.drop_duplicates("manifold").set_index("manifold")  # float64, where all directions were measured
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
    caption = f"Decoder Jacobians at {example}, float64. Singular values carry the scale of the code"
    return table(frame, formats, caption)
