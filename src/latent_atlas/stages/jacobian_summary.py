"""jacobian_summary: the decoders' spectra in tables over the sample and at the examples, and in figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from latent_atlas.command import log
from latent_atlas.errors import counted
from latent_atlas.files import write_tables
from latent_atlas.geometry.limits import ACCURATE
from latent_atlas.report.figures.jacobian import plot_spectra, plot_spectrum_bands
from latent_atlas.report.figures.style import save
from latent_atlas.stages.tables import arrays_of, combined
from latent_atlas.statistics import intervals
from latent_atlas.statistics.summaries import by_class, differences, summarized
from latent_atlas.study.manifolds import groups, manifolds, members

if TYPE_CHECKING:
    from latent_atlas.study.schema import Params

NAMES = ("sigma_max", "sigma_min", "condition_number", "log_volume", "effective_rank", "participation_ratio")
VALUES = [*NAMES[:4], *(f"{name}_per_sd" for name in NAMES)]


def jacobian_summary(params: Params, folder: Path) -> None:
    """Summarize the decoders' spectra and draw them at the examples."""
    table = combined(folder, manifolds(params), "spectra.parquet")
    values = combined(folder, manifolds(params), "values.csv")
    examples = combined(folder, manifolds(params), "examples.csv")
    sample = where_defined(table[table["example"].isna()])
    drawn = bands(folder, params)
    written = {
        "summary.csv": immersions(sample).merge(summarized(sample, VALUES), on=["model", "latent_dim"]),
        "by_class.csv": by_class(summarized, sample, VALUES, ["latent_dim"]),
        "differences.csv": differences(sample, [name for name in VALUES if name.endswith("_per_sd")]),
        "examples.csv": examples,
        "values.csv": values,
        "bands.csv": drawn,
    }
    write_tables(folder, written)
    for example in params.examples:
        spectra, tolerances = (table[table["example"] == example] for table in (accurate(values), examples))
        save(plot_spectra(spectra, tolerances, groups(params)), folder / f"spectra_{example}.svg")
    shown = {group: names for group, names in groups(params).items() if group != "pca_uncentred"}  # is the same as PCA
    save(plot_spectrum_bands(drawn, shown), folder / "bands.svg")
    log.info(f"{counted(len(manifolds(params)), 'manifold')}: {folder}")


def where_defined(table: pd.DataFrame) -> pd.DataFrame:
    """The table of spectra with null where a condition number or a volume is that of rounding: where rank is lost.

    Where a rank is not known, neither are sums over the spectrum: the estimates and their limits are in the table of
    each manifold.
    """
    table = table.copy()
    for full, ending in ((table["latent_dim"], ""), (table["directions"], "_per_sd")):
        lost = table[f"rank{ending}"] != full
        table.loc[lost, [f"condition_number{ending}", f"log_volume{ending}"]] = np.nan
        unknown = table[f"rank{ending}"].isna()
        table.loc[unknown, [f"effective_rank{ending}", f"participation_ratio{ending}"]] = np.nan
    return table


def accurate(values: pd.DataFrame) -> pd.DataFrame:
    """Of a table of singular values those that are known to a twentieth."""
    if "bound" not in values:
        return values
    near = ~(values["bound"] > ACCURATE * values["singular_value"])  # null where all are known
    return values[near.groupby([values["manifold"], values["example"], values["dtype"]]).cummin()]


def immersions(table: pd.DataFrame) -> pd.DataFrame:
    """At what share of the images each model's decoder is an immersion, the lowest rank and the smallest ratio.

    Null where the rank is not known at some of the images.
    """
    rows = []
    for (model, k), several in table.groupby(["model", "latent_dim"], sort=False):
        if several["rank"].isna().any():
            rows.append({"model": model, "latent_dim": k})
            continue
        full = [(training["rank"] == k).to_numpy() for _, training in several.groupby("seed", dropna=False)]
        share = intervals.share(np.stack(full))  # of trainings x images
        row = {"model": model, "latent_dim": k, "full_rank_share": share.estimate, "full_rank_share_low": share.low}
        ratio = (several["sigma_min"] / several["sigma_max"]).fillna(0)  # 0 / 0 where rank is zero
        row |= {"full_rank_share_high": share.high, "rank_min": several["rank"].min(), "sigma_ratio_min": ratio.min()}
        rows.append(row)
    columns = ["model", "latent_dim", *(f"full_rank_share{ending}" for ending in ("", "_low", "_high"))]
    return pd.DataFrame(rows, columns=[*columns, "rank_min", "sigma_ratio_min"])


def bands(folder: Path, params: Params) -> pd.DataFrame:
    """Median and 5% to 95% of the images and trainings of the singular values per standard deviation, by order."""
    found: dict[str, list[np.ndarray]] = {}
    for name, member in members(params).items():
        file = folder / name / "singular_values.safetensors"
        values = arrays_of(name, file, {"per_sd": "float* * *"})["per_sd"]  # images x r
        found.setdefault(member.model, []).append(values)
    tables = []
    for model, several in found.items():
        widest = max(values.shape[1] for values in several)
        padded = [np.pad(values, ((0, 0), (0, widest - values.shape[1]))) for values in several]
        low, median, high = np.quantile(np.concatenate(padded), [0.05, 0.5, 0.95], axis=0)  # r each
        columns = {"model": model, "order": range(1, widest + 1), "low": low, "median": median, "high": high}
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)
