"""explorer_summary: the explorer, a page that runs the decoders of the study, and what was exported for it."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from latent_atlas.command import log
from latent_atlas.data.stored import StoredImages
from latent_atlas.errors import counted
from latent_atlas.files import write_tables, write_text
from latent_atlas.geometry.transformations import TRANSFORMATIONS
from latent_atlas.report.assets import EXPLORER, static, template
from latent_atlas.stages.tables import arrays_of, combined, read_of, shown_pairs
from latent_atlas.statistics.chance import chance_angle_deg
from latent_atlas.study.manifolds import compared
from latent_atlas.study.transformations import transformations

if TYPE_CHECKING:
    from latent_atlas.study.schema import Params


def explorer_summary(params: Params, folder: Path, geodesics: Path, images: Path, report: Path) -> None:
    """Write the explorer: its page, its scripts, the decoders, and the images to pick from."""
    names = compared(params)
    data = StoredImages.load(images)
    table = combined(folder, names, "export.csv")
    write_tables(folder, {"summary.csv": table})
    pairs = shown_pairs(geodesics / names[0], names[0])
    shown = read_of(names[0], folder / names[0] / "images.csv", ["split", "image"])
    places = data.places({place: place for place in shown["split"] + "/" + shown["image"].astype(str)})
    numbers = {f"{split}/{index}": number for number, (split, index) in enumerate(places)}
    named = {place: example for example, place in params.examples.items()}
    sample = {
        "dataset": data.name,
        "shape": data.shape,
        "images": _base64(np.stack([data.pixels(split)[index] for split, index in places])),
        "labels": [data.classes[int(data.labels(split)[index])] for split, index in places],
        "names": [named.get(place) or place for place in numbers],
        "pairs": [
            [numbers[first], numbers[second]] for first, second in pairs[["first", "second"]].itertuples(index=False)
        ],
        "transformations": [
            {
                "name": name,
                "step": step,
                "unit": entry.unit,
                "function": entry.name if entry is TRANSFORMATIONS.get(entry.name) else None,
            }
            for name, (entry, step) in transformations(params).items()
        ],
        "manifolds": [_described(row) for row in table.to_dict("records")],
        "chance": _chance(int(table["latent_dim"].max()), data.shape),
    }
    _write_script(report / "explorer" / "sample.js", "sample", sample)
    for name, k in zip(names, table["latent_dim"], strict=True):
        arrays = arrays_of(name, folder / name / "graphs.safetensors", {
            **dict.fromkeys(("decoder", "jacobian", "weights"), "uint8 *"), "codes": f"float32 * {k}",
            "geodesics": f"float32 * * {k}", "centre": f"float32 {k}", "axes": f"float32 [12] {k}",
        })  # fmt: skip
        _write_script(report / "explorer" / f"decoder_{name}.js", f"decoder_{name}", {
            "geodesicPoints": arrays["geodesics"].shape[1],
            **{part: _base64(array) for part, array in arrays.items()},
        })  # fmt: skip
    for file in EXPLORER:
        write_text(report / "explorer" / file, static(file))
    write_text(report / "explorer.html", template("explorer.html").render(data=data))
    size = sum(file.stat().st_size for file in (report / "explorer").iterdir())
    log.info(
        f"{int(table['exported'].sum())} of {counted(len(table), 'decoder')}, {size / 1e6:.1f} MB: "
        f"{report / 'explorer.html'}"
    )


def _described(row: dict[str, Any]) -> dict[str, Any]:
    """What the page says of one manifold; numbers that were not measured are null."""
    return {
        "name": row["manifold"],
        "latentDim": int(row["latent_dim"]),
        "exported": bool(row["exported"]),
        "withJacobian": bool(row["with_jacobian"]),
        "precision": None if pd.isna(row["precision"]) else row["precision"],
        "angleError": None if pd.isna(row["largest_angle_error_deg"]) else row["largest_angle_error_deg"],
        "reason": None if pd.isna(row["reason"]) else row["reason"],
    }


def _chance(most: int, shape: tuple[int, int, int]) -> list[float]:
    """Chance levels in degrees by the rank of a tangent space, from 0 to the largest."""
    pixels = shape[0] * shape[1] * shape[2]
    return [round(chance_angle_deg(rank, pixels), 4) for rank in range(min(most, pixels) + 1)]


def _base64(array: np.ndarray) -> str:
    """The bytes of an array, little-endian."""
    return base64.b64encode(array.tobytes()).decode()


def _write_script(path: Path, name: str, value: dict[str, Any]) -> None:
    """A classic script that leaves a value for the page, since a page that is opened from disk cannot read files."""
    write_text(path, f"(globalThis.atlas ??= {{}})[{json.dumps(name)}] = {json.dumps(value, ensure_ascii=True)};\n")
