"""report: the page that shows all results, the data that it is rendered from, and its pictures."""

from __future__ import annotations

import functools
import hashlib
import importlib
import json
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from latent_atlas.command import log
from latent_atlas.data.stored import StoredImages
from latent_atlas.files import write_text
from latent_atlas.models.provenance import PACKAGES, provenance
from latent_atlas.report.assets import PLOTS, static, template
from latent_atlas.report.definitions import Terms, definitions
from latent_atlas.report.findings import record
from latent_atlas.report.opening import answers, question
from latent_atlas.report.origins import Origins
from latent_atlas.report.page import Picture, Section, Table
from latent_atlas.report.pictures import convert
from latent_atlas.report.sections import (
    agreement,
    factors,
    geodesics,
    interpolate,
    invariance,
    jacobian,
    known_answers,
    layers,
    overview,
    pca,
    reconstruct,
    tangents,
    train,
)

if TYPE_CHECKING:
    from latent_atlas.stages.unfinished import Unfinished
    from latent_atlas.study.schema import Params

T = TypeVar("T")

SECTIONS = (
    overview, reconstruct, factors, invariance, agreement, jacobian, layers, tangents, interpolate, geodesics, train,
    pca, known_answers,
)  # fmt: skip


def report(
    params: Params, results: Path, images: Path, origins: Path | None, folder: Path, partial: bool = False
) -> None:
    """Write the page that shows all results; its folder can be sent on, and opens without a server."""
    made = Origins.read(origins, params.model_dump(mode="json", exclude_none=True))
    if not partial:
        _write(params, results, images, made, folder)
        return
    # by its name: a whole page does not depend on what makes summaries
    unfinished_run = importlib.import_module("latent_atlas.stages.unfinished").Unfinished
    with tempfile.TemporaryDirectory() as aside:
        unfinished: Unfinished = unfinished_run(params, results, Path(aside) / "results")
        unfinished.summarize(images, folder)
        _write(unfinished.params, unfinished.results, images, made, folder, unfinished)
    for line in unfinished.left_out:
        log.warning(f"left out: {line.what}: {line.why}")


def _write(
    params: Params, results: Path, images: Path, made: Origins, folder: Path, unfinished: Unfinished | None = None
) -> None:
    """Write the page; of a run that has failed half-way, without what its results lack."""
    attempt = unfinished.attempt if unfinished else _at_once
    data = StoredImages.load(images)
    checksum = data.checksum
    metadata = provenance(checksum)
    pictures: dict[Path, dict[str, Any]] = {}

    def origin(path: Path) -> dict[str, Any]:
        file = path.relative_to(results)
        told = {"file": file.as_posix(), "md5": made.md5(path), "job": made.job((Path("results") / file).as_posix())}
        return told | {"here": True} if unfinished and not path.is_symlink() else told

    def whole(module: ModuleType) -> Section | None:
        """A section, whose pictures are there."""
        section: Section | None = module.section(results, params)
        shown = [picture.path for picture in (*section.pictures, *section.folded)] if section else []
        converted = {path: convert(path, results, folder) for path in shown if path not in pictures}
        pictures.update({path: picture | origin(path) for path, picture in converted.items()})
        return section

    found = [section for module in SECTIONS if (section := attempt(module.TITLE, functools.partial(whole, module)))]
    anchors = {section.title: section.anchor for section in found}
    answered = [
        {"about": answer.about, "sentence": record(sentence), "anchor": anchors[answer.section]}
        for answer in answers(results, params)
        if answer.section in anchors and (sentence := attempt(f"the answer on {answer.about}", answer.sentence))
    ]
    content = {
        "dataset": {
            "name": data.name,
            "train": len(data.train),
            "test": len(data.test),
            "shape": data.shape,
            "sha256": checksum,
        },
        "models": len(params.models),
        "subspaces": 2 * len(params.pca.latent_dims),
        "versions": {name: metadata[f"version_{name}"] for name in (*PACKAGES, "python")},
        "question": question(data.name, len(params.models)),
        "answers": answered,
        "left_out": [line._asdict() for line in unfinished.left_out] if unfinished else [],
        "explorer": not unfinished or (folder / "explorer.html").is_file(),
        "definitions": definitions(),
        "sections": [_content(section, pictures, origin) for section in found],
        "jobs": made.jobs,
    }
    text = written(content)
    write_text(folder / "data.json", text)
    write_text(folder / PLOTS, static(PLOTS))
    html = page(json.loads(text))
    write_text(folder / "index.html", html)
    size = len(html.encode()) + sum((folder / picture["webp"]).stat().st_size for picture in pictures.values())
    log.info(f"{size / 1e6:.1f} MB: {(folder / 'index.html').resolve()}")


def _at_once(_: str, make: Callable[[], T]) -> T | None:
    return make()


def page(content: Mapping[str, Any]) -> str:
    """The page of the data of a report."""
    own = {ending: static(f"page.{ending}") for ending in ("css", "js")}
    checksum = hashlib.md5(written(content).encode(), usedforsecurity=False).hexdigest()
    return template("report.html").render(
        **content, static=own, marked=Terms(content["definitions"]), data_md5=checksum
    )


def written(content: Mapping[str, Any]) -> str:
    """The text of data.json: a line for each of its parts and sections, which indented would be twice as long."""

    def short(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))

    parts = {
        key: "[\n" + ",\n".join(map(short, value)) + "\n]" if key == "sections" and value else short(value)
        for key, value in content.items()
    }
    return "{" + ",\n".join(f"{short(key)}:{part}" for key, part in parts.items()) + "}\n"


def _content(
    section: Section, pictures: Mapping[Path, Mapping[str, Any]], origin: Callable[[Path], dict[str, Any]]
) -> dict[str, Any]:
    """A section as plain values."""

    def drawn(several: Iterable[Picture]) -> list[dict[str, Any]]:
        return [
            {
                "caption": picture.caption,
                "alt": picture.alt,
                "wide": picture.wide,
                "plots": picture.plots,
                **pictures[picture.path],
            }
            for picture in several
        ]

    def read(several: Iterable[Table]) -> list[dict[str, Any]]:
        return [asdict(table) | {"files": [origin(file) for file in table.files]} for table in several]

    return {
        "title": section.title,
        "anchor": section.anchor,
        "sentences": [record(sentence) for sentence in section.sentences],
        "tables": read(section.tables),
        "pictures": drawn(section.pictures),
        "folded": drawn(section.folded),
        "folded_tables": read(section.folded_tables),
        "warnings": section.warnings,
        "tables_first": section.tables_first,
    }
