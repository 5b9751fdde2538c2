"""records: node, device, time and memory of each job."""

from __future__ import annotations

import json
import logging
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from latent_atlas.errors import LatentAtlasError
from latent_atlas.files import unsealed

log = logging.getLogger("latent_atlas")

COLUMNS = (
    "stage", "node", "job_id", "device", "started_utc", "wall_s", "cpu_s", "peak_memory_mib", "peak_gpu_memory_mib",
)  # fmt: skip
ENDING = ".record.json"
LARGEST = 10**6  # bytes of a record


@click.command()
def records() -> None:
    """Collect node, device, time and memory of all jobs in results/records.csv and beside the report.

    Every `snakemake` does this at its end; call it after `dvc repro`.

    \b
    Example:
      dvc repro && latent-atlas records
    """
    if not Path("Snakefile").is_file():
        raise click.ClickException("this folder has no Snakefile: run it in the project's folder")
    click.echo(f"{collect()} jobs: results/records.csv")


def read(path: Path) -> dict[str, Any]:
    """The record of a job.

    Raises
    ------
    ValueError
        If it is none: what is wrong with it.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST:
            raise ValueError("it is no small file")
        return _checked(unsealed(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from error


def _checked(values: Any) -> dict[str, Any]:
    from pydantic import ValidationError

    from latent_atlas.cluster.job_record import Record

    try:
        Record.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(": ".join([*map(str, first["loc"]), first["msg"][0].lower() + first["msg"][1:]])) from error
    return dict(values)


def read_all(logs: Path) -> dict[Path, dict[str, Any]]:
    """The records of all jobs that can be read. Each other one is named in a warning, and removed if it is a file."""
    found = {}
    for path in sorted(logs.rglob(f"*{ENDING}")):
        try:
            found[path] = read(path)
        except ValueError as error:
            log.warning("warning: %s is no record of a job (%s): left out; its next run writes it", path, error)
            with suppress(OSError):
                path.unlink()
    return found


def collect(logs: Path = Path("logs"), results: Path = Path("results"), pipeline: Path = Path("dvc.yaml")) -> int:
    """Merge the metadata files of the jobs into the table of records; of two records of a stage, the newer is kept.

    Records of stages that the pipeline no longer has are dropped. Two files are written: ``results/records.csv``, and
    ``results/report/records.js`` with the same content, which the report can load when it is opened from disk. What
    cannot be read or written is said in a warning, and no error is raised: the results do not depend on it.

    Returns
    -------
    int
        Number of records.
    """
    import pandas as pd

    from latent_atlas.files import write_table, write_text

    table = results / "records.csv"
    rows = _rows(table)
    for path, record in read_all(logs).items():
        stage = "-".join(path.relative_to(logs).parts).removesuffix(ENDING)
        metadata = {key: "" if value is None else str(value) for key, value in record.items()}
        if stage not in rows or str(rows[stage]["started_utc"]) <= metadata["started_utc"]:
            rows[stage] = {"stage": stage, **metadata}
    known = _stages(pipeline)
    kept = [{key: rows[stage].get(key, "") for key in COLUMNS} for stage in sorted(rows) if not known or stage in known]
    if not kept:
        return 0
    shown = json.dumps(kept).replace("</", "<\\/")
    _try(lambda: write_table(table, pd.DataFrame(kept)))
    _try(lambda: write_text(results / "report" / "records.js", f"showRecords({shown});\n"))
    return len(kept)


def times(table: Path = Path("results/records.csv")) -> dict[str, tuple[float, float]]:
    """When the jobs in a table of records began and ended, by stage, in seconds since 1970; empty without the table."""
    rows = {stage: row for stage, row in _rows(table).items() if row["started_utc"] and row["wall_s"]}
    began = {
        stage: datetime.fromisoformat(row["started_utc"]).replace(tzinfo=UTC).timestamp() for stage, row in rows.items()
    }
    return {stage: (began[stage], began[stage] + float(row["wall_s"])) for stage, row in rows.items()}


def _try(write: Callable[[], None]) -> None:
    try:
        write()
    except LatentAtlasError as error:
        log.warning("warning: %s", error)


def _rows(table: Path) -> dict[str, dict[str, str]]:
    """The rows of an older table by stage; those that are no records are left out, which is said."""
    import pandas as pd

    rows: dict[str, dict[str, str]] = {}
    wrong = []
    try:
        if not table.is_file():
            if os.path.lexists(table):
                raise ValueError("it is no file")
            return {}
        old = pd.read_csv(table, dtype=str, keep_default_na=False)
        if lacking := [key for key in COLUMNS if key not in old]:
            raise ValueError(f"it has no column {lacking[0]}")
    except (OSError, ValueError) as error:  # pandas' own errors are among these
        reason = str(error).partition("\n")[0]
        log.warning("warning: %s is no table of records (%s): written anew from the records in logs", table, reason)
        return {}
    for row in old.to_dict("records"):
        try:
            _checked({key: value for key, value in row.items() if value != ""})
        except ValueError as error:
            wrong.append(f"{row['stage']}: {error}")
        else:
            rows[row["stage"]] = {str(key): str(value) for key, value in row.items()}
    if wrong:
        log.warning("warning: %s: %d rows are no records and are left out; the first: %s", table, len(wrong), wrong[0])
    return rows


def _stages(pipeline: Path) -> set[str]:
    """Names of the stages in ``dvc.yaml``; none where there is no such file, or it cannot be read."""
    from ruamel.yaml import YAML

    if not pipeline.is_file():
        return set()
    try:
        return set(YAML(typ="safe").load(pipeline.read_text(encoding="utf-8"))["stages"])
    except Exception as error:  # of the YAML library, or of what is missing
        reason = str(error).partition("\n")[0]
        log.warning("warning: %s names no stages (%s): records of all stages are kept", pipeline, reason)
        return set()
