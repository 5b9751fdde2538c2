"""The report on layers: what the weights alone can tell."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from latent_atlas.files import read_table
from latent_atlas.report.findings import Finding, Sentence, capitalized
from latent_atlas.report.page import Picture, Section, Table, extremes, table
from latent_atlas.study.schema import Params

TITLE = "Layers"


def section(results: Path, params: Params) -> Section:
    """Verdicts on encoders and decoders, and the tables they rest on."""
    folder = results / "layers"
    verdicts = read_table(folder / "summary.csv")
    layers = read_table(folder / "layers.csv")
    widest, least = (
        extremes(layers, column, "{:.3g}".format, "manifold", "layer") for column in ("sigma_max", "sigma_min")
    )
    return Section(
        TITLE,
        sentences=sentences(findings(verdicts)),
        tables=[
            table(
                verdicts[["manifold", "part", "property", "verdict", "reason"]], {}, "What the weights say, and why"
            ).of(folder / "summary.csv")
        ],
        pictures=[
            Picture(
                folder / "spectra.svg",
                "Singular values of each linear or convolutional layer.",
                alt=f"Falling curves of {len(layers)} layers of {layers['manifold'].nunique()} networks. The "
                f"largest singular value of a layer: {widest}; the smallest: {least}.",
            )
        ],
        folded_tables=[
            _table(layers[layers["manifold"] == name], name).of(folder / "layers.csv")
            for name in params.models
            if name in set(layers["manifold"])
        ],
    )


def findings(verdicts: pd.DataFrame) -> dict[tuple[str, str], dict[str, list[str]]]:
    """For each part and property the networks of each verdict: yes, no, undetermined."""
    return {
        (str(part), str(name)): {
            verdict: list(rows.loc[rows["verdict"] == verdict, "manifold"])
            for verdict in ("yes", "no", "undetermined")
            if verdict in set(rows["verdict"])
        }
        for (part, name), rows in verdicts.groupby(["part", "property"], sort=False)
    }


def sentences(found: dict[tuple[str, str], dict[str, list[str]]]) -> list[Sentence]:
    """The findings in words."""
    words = {
        "yes": "yes for {networks}",
        "no": "no for {networks}",
        "undetermined": "the weights alone cannot tell for {networks}",
    }
    said = []
    for (part, name), models in found.items():
        verdicts = [
            Finding(
                f"{part}: {name}",
                words[verdict] if place else capitalized(words[verdict]),
                value=len(names),
                unit="networks",
                relation=verdict,
                facts={"networks": ", ".join(names)},
            )
            for place, (verdict, names) in enumerate(models.items())
        ]
        said.append(Sentence(f"Is the {part} {'an' if name[0] in 'aeiou' else 'a'} {name}? {{}}.", verdicts, "; "))
    return said


def _table(layers: pd.DataFrame, name: str) -> Table:
    chain = " → ".join(str(number) for number in _dimensions(layers))
    parts = list(layers["part"].drop_duplicates())
    alone = f", {parts[0]} alone" if len(parts) == 1 else ""
    total = int(layers["parameters"].sum())
    columns = ["part", "layer", "kind", "input_shape", "output_shape", "parameters", "rank", "sigma_max", "sigma_min"]
    formats = {
        "parameters": "{:,.0f}".format,
        "rank": "{:.0f}".format,
        "sigma_max": "{:.4g}".format,
        "sigma_min": "{:.4g}".format,
    }
    return table(layers[columns], formats, f"{name}{alone}: {total:,} parameters; dimensions {chain}")


def _dimensions(layers: pd.DataFrame) -> list[int]:
    """The dimensions of the spaces that an image passes through, changes only."""
    chain = [int(layers["input_dim"].iloc[0])]
    for size in layers["output_dim"]:
        if size != chain[-1]:
            chain.append(int(size))
    return chain
