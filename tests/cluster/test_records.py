"""Metadata of jobs: written beside the log of each, collected beside the results."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from support import Study

from latent_atlas.cluster.records import COLUMNS, collect


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: str, started: str = "2030-01-01T00:00:00", **metadata: object) -> None:
    """The metadata file of a job."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps({"node": "n1", "device": "cpu", "started_utc": started, "wall_s": 2.5} | metadata))


def table() -> pd.DataFrame:
    """The table of records, by stage."""
    return pd.read_csv("results/records.csv", keep_default_na=False).set_index("stage")


def test_a_job_leaves_its_record(study: Study) -> None:
    done = study.run("fetch", "--images", "data/again.safetensors", "--log", "logs/fetch.log")
    assert done.exit_code == 0, done.output
    record = json.loads((study.folder / "logs" / "fetch.record.json").read_text())
    assert set(record) < set(COLUMNS)
    assert record["device"] == "cpu"
    assert 0 < record["wall_s"] < 600
    assert 10 < record["peak_memory_mib"] < 100_000


def test_a_failed_job_leaves_none(study: Study) -> None:
    done = study.run("train", "--name", "none", "--images", "absent", "--checkpoint", "a", "--curve", "b",
                     "--snapshots", "c", "--log", "logs/failed.log")  # fmt: skip
    assert done.exit_code == 1
    assert not (study.folder / "logs" / "failed.record.json").exists()


def test_collected_by_stage(place: Path) -> None:
    write("logs/train/a.record.json", device="NVIDIA H100", peak_gpu_memory_mib=812)
    write("logs/report.record.json", job_id="17")
    assert collect() == 2
    found = table()
    assert list(found.index) == ["report", "train-a"]
    assert found.loc["train-a", "device"] == "NVIDIA H100"
    assert str(found.loc["train-a", "peak_gpu_memory_mib"]) == "812"
    assert str(found.loc["report", "job_id"]) == "17"
    script = Path("results/report/records.js").read_text()
    assert json.loads(script.removeprefix("showRecords(").removesuffix(");\n"))[1]["stage"] == "train-a"


def test_the_newer_of_two_is_kept(place: Path) -> None:
    write("logs/train/a.record.json", "2030-01-02T00:00:00", node="mine")
    write("logs/train/b.record.json", "2030-01-02T00:00:00", node="mine")
    collect()
    write("logs/train/a.record.json", "2030-01-03T00:00:00", node="newer")
    write("logs/train/b.record.json", "2030-01-01T00:00:00", node="older")
    collect()
    assert table()["node"].to_dict() == {"train-a": "newer", "train-b": "mine"}


def test_another_persons_records_stay_where_nothing_ran(place: Path) -> None:
    write("logs/train/a.record.json")
    collect()
    Path("logs/train/a.record.json").unlink()  # a clone: results and their records, no logs
    before = Path("results/records.csv").read_bytes()
    assert collect() == 1
    assert Path("results/records.csv").read_bytes() == before


def test_stages_that_are_gone_are_dropped(place: Path) -> None:
    write("logs/train/a.record.json")
    write("logs/train/b.record.json")
    Path("dvc.yaml").write_text("stages:\n  train-b: {cmd: x}\n")
    assert collect() == 1
    assert list(table().index) == ["train-b"]


def test_a_name_cannot_end_the_script(place: Path) -> None:
    write("logs/report.record.json", node="</script>")
    collect()
    assert "</script>" not in Path("results/report/records.js").read_text()


def test_unwritable_folder_does_not_fail_the_job(study: Study) -> None:
    (study.folder / "logs").write_text("in the way")
    done = study.run("fetch", "--images", "data/again.safetensors", "--log", "logs/fetch.log")
    assert done.exit_code == 0, done.output
