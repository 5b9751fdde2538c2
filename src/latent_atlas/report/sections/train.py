"""The report on training: how each model came to its error."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from latent_atlas.files import read_table
from latent_atlas.report.findings import Finding, Sentence
from latent_atlas.report.learned import unlearned
from latent_atlas.report.page import Picture, Section, Table, extremes, table
from latent_atlas.report.plots import learning_curves
from latent_atlas.study.manifolds import groups, trained
from latent_atlas.study.models import training_of
from latent_atlas.study.schema import Params

TITLE = "Training"
OVERFITTED = 0.05  # of the training error, up to which a gap is not spoken of


def section(results: Path, params: Params) -> Section:
    """The learning curves in one picture, with PCA's errors beside them, and each on its own."""
    if not trained(params):
        return Section(TITLE, ["No model on this page was trained here: all were imported."])
    folder = results / "train"
    table = read_table(folder / "curves.csv")
    error, ends = "{:.5f}".format, table.groupby("manifold", sort=False).tail(1)
    curves = {str(name): rows for name, rows in table.groupby("manifold", sort=False)}
    return Section(
        TITLE,
        warnings=[str(case) for case in unlearned(results, params) if case.manifold in curves],
        sentences=[_sentence(*widest_gap(curves))],
        tables=[_table(curves, params).of(folder / "curves.csv")],
        pictures=[
            Picture(
                folder / "curves.svg",
                "Error on the test images in the course of each training.",
                plots=(learning_curves(table, groups(params)).to_dict(),),
                alt=f"Learning curves of {len(curves)} trainings over up to {table['epoch'].max()} epochs. Test error "
                f"at the end: {extremes(ends, 'test_mse', error, 'manifold')}.",
            )
        ],
        folded=[
            Picture(
                folder / name / "curve.svg",
                f"Learning curve of {name}.",
                wide=False,
                alt=f"Error on training and test images over {rows['epoch'].iloc[-1]} epochs: the test error goes "
                f"from {error(rows['test_mse'].iloc[0])} to {error(rows['test_mse'].iloc[-1])}, the training "
                f"error ends at {error(rows['train_mse'].iloc[-1])}.",
            )
            for name, rows in curves.items()
        ],
    )


def widest_gap(curves: dict[str, pd.DataFrame]) -> tuple[str, float]:
    """The model whose test error ends farthest above its training error, and by which part of that error."""
    gaps = {name: table["test_mse"].iloc[-1] / table["train_mse"].iloc[-1] - 1 for name, table in curves.items()}
    return max(gaps.items(), key=lambda item: item[1])


def _sentence(name: str, gap: float) -> str:
    """Whether a model overfits."""
    words = (
        "No model's test error ends more than {most:.0%} above its training error."
        if gap <= OVERFITTED
        else "The widest gap between training and test error is that of {subject}: the test error ends {value:.0%} "
        "higher."
    )
    return Sentence("{}", [Finding("test error above training error", words, name, gap, facts={"most": OVERFITTED})])


def _table(curves: dict[str, pd.DataFrame], params: Params) -> Table:
    """How each training went: the epochs and steps that were done, which may be other than those asked for."""
    rows = []
    for name, curve in curves.items():
        last = curve.iloc[-1]
        own = training_of(params, last["model"])
        rows.append(
            {
                "training": name,
                "epochs": last["epoch"],
                "steps": last["step"],
                "batch": own.batch_size,
                "peak learning rate": own.peak_learning_rate,
                "optimizer": own.optimizer,
                "precision": own.precision,
                "objective": own.objective if isinstance(own.objective, str) else ", ".join(own.objective),
                "seed": last["seed"],
                "test MSE": last["test_mse"],
            }
        )
    formats = dict.fromkeys(("epochs", "steps", "batch", "seed"), "{:.0f}".format)
    formats |= {"peak learning rate": "{:g}".format, "test MSE": "{:.5f}".format}
    return table(pd.DataFrame(rows), formats, "What each training did")
