"""records: node, device, time and memory of each job."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime
from pathlib import Path

import click

COLUMNS = (
    "stage", "node", "job_id", "device", "started_utc", "wall_s", "cpu_s", "peak_memory_mib", "peak_gpu_memory_mib",
)  # fmt: skip
ENDING = ".record.json"


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


def collect(logs: Path = Path("logs"), results: Path = Path("results"), pipeline: Path = Path("dvc.yaml")) -> int:
    """Merge the metadata files of the jobs into the table of records; of two records of a stage, the newer is kept.

    Records of stages that the pipeline no longer has are dropped. Two files are written: ``results/records.csv``, and
    ``results/report/records.js`` with the same content, which the report can load when it is opened from disk.

    Returns
    -------
    int
        Number of records.
    """
    import pandas as pd

    from latent_atlas.files import write_table, write_text

    table = results / "records.csv"
    rows: dict[str, dict[str, object]] = {}
    if table.exists():
        old = pd.read_csv(table, dtype=object, keep_default_na=False)
        rows = {str(row["stage"]): {str(key): value for key, value in row.items()} for row in old.to_dict("records")}
    for path in logs.rglob(f"*{ENDING}"):
        stage = "-".join(path.relative_to(logs).parts).removesuffix(ENDING)
        metadata = {key: "" if value is None else str(value) for key, value in json.loads(path.read_text()).items()}
        if stage not in rows or str(rows[stage]["started_utc"]) <= metadata["started_utc"]:
            rows[stage] = {"stage": stage, **metadata}
    known = _stages(pipeline)
    kept = [{key: rows[stage].get(key, "") for key in COLUMNS} for stage in sorted(rows) if not known or stage in known]
    if not kept:
        return 0
    write_table(table, pd.DataFrame(kept))
    shown = json.dumps(kept).replace("</", "<\\/")
    write_text(results / "report" / "records.js", f"showRecords({shown});\n")
    return len(kept)


def times(table: Path) -> dict[str, tuple[float, float]]:
    """When the jobs in a table of records began and ended, by stage, in seconds since 1970; empty without the table."""
    if not table.exists():
        return {}
    with table.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["started_utc"] and row["wall_s"]]
    began = {row["stage"]: datetime.fromisoformat(row["started_utc"]).replace(tzinfo=UTC).timestamp() for row in rows}
    return {row["stage"]: (began[row["stage"]], began[row["stage"]] + float(row["wall_s"])) for row in rows}


def _stages(pipeline: Path) -> set[str]:
    """Names of the stages in ``dvc.yaml``; none where there is no such file."""
    from ruamel.yaml import YAML

    return set(YAML(typ="safe").load(pipeline.read_text(encoding="utf-8"))["stages"]) if pipeline.exists() else set()
