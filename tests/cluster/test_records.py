"""Metadata of jobs: written beside the log of each, collected beside the results."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from support import Study

from latent_atlas import command
from latent_atlas.cluster.measured import measure
from latent_atlas.cluster.records import COLUMNS, collect
from latent_atlas.files import sealed, unsealed
from latent_atlas.study import schema

KNOWN: dict[str, object] = {
    "node": "n1", "device": "cpu", "started_utc": "2020-01-01", "wall_s": 2.5, "cpu_s": 2.0, "peak_memory_mib": 300,
}  # fmt: skip
PARAMS = Path(__file__).resolve().parents[2] / "params.yaml"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: str, started: str = "2020-01-01T00:00:00", **metadata: object) -> None:
    """The metadata file of a job."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(sealed(KNOWN | {"started_utc": started} | metadata))


def table() -> pd.DataFrame:
    """The table of records, by stage."""
    return pd.read_csv("results/records.csv", keep_default_na=False).set_index("stage")


def test_a_job_leaves_its_record(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_starts", [])  # the first command of a process began with it, here with other tests
    done = study.run("fetch", "--images", "data/again.safetensors", "--log", "logs/fetch.log")
    assert done.exit_code == 0, done.output
    record = unsealed((study.folder / "logs" / "fetch.record.json").read_text())
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
    write("logs/train/a.record.json", "2020-01-02T00:00:00", node="mine")
    write("logs/train/b.record.json", "2020-01-02T00:00:00", node="mine")
    collect()
    write("logs/train/a.record.json", "2020-01-03T00:00:00", node="newer")
    write("logs/train/b.record.json", "2020-01-01T00:00:00", node="older")
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


DAMAGE = {
    "empty": b"",
    "cut": b'{"node": "n1", "dev',
    "conflict": b"<<<<<<< ours\n{}\n=======\n{}\n>>>>>>> theirs\n",
    "binary": bytes(range(256)),
    "a list": b"[]",
    "a number": b"17",
    "nested": b"[" * 100_000,
    "without a checksum": json.dumps(KNOWN).encode(),
    "changed": sealed(KNOWN).replace("2.5", "3.5").encode(),
    "without a time": sealed({key: value for key, value in KNOWN.items() if key != "started_utc"}).encode(),
    "infinite": sealed(KNOWN | {"wall_s": math.inf}).encode(),
    "from the future": sealed(KNOWN | {"started_utc": "2999-01-01"}).encode(),
}


@pytest.mark.parametrize("content", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_record_is_named_and_left_out(place: Path, caplog: pytest.LogCaptureFixture, content: bytes) -> None:
    write("logs/train/a.record.json", node="older")
    collect()
    Path("logs/train/a.record.json").write_bytes(content)
    write("logs/report.record.json")
    assert collect() == 2
    (said,) = caplog.messages
    assert said.startswith("warning: logs/train/a.record.json is no record of a job (")
    assert "\n" not in said
    assert table()["node"].to_dict() == {"report": "n1", "train-a": "older"}
    write("logs/train/a.record.json", "2020-01-02T00:00:00", node="newer")  # its next run
    assert collect() == 2
    assert table().loc["train-a", "node"] == "newer"
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to(path)])
def test_what_is_no_file_is_no_record(
    place: Path, caplog: pytest.LogCaptureFixture, make: Callable[[Path], None]
) -> None:
    write("logs/report.record.json")
    make(Path("logs/fetch.record.json"))
    assert collect() == 1
    assert "logs/fetch.record.json" in caplog.messages[0]
    assert measure(Path("logs"), schema.load(PARAMS))["report"]["memory_mb"] == 300


@pytest.mark.parametrize(
    "content", [b"", b"stage,node\na,b\n", b"\xff\xfe\0", b"<<<<<<< ours\n", b'"', b"a,b\nc,d,e\n"]
)
def test_a_damaged_table_is_written_anew(place: Path, caplog: pytest.LogCaptureFixture, content: bytes) -> None:
    write("logs/train/a.record.json")
    Path("results").mkdir()
    Path("results/records.csv").write_bytes(content)
    assert collect() == 1
    assert list(table().index) == ["train-a"]
    assert "results/records.csv is no table of records" in caplog.messages[0]
    assert collect() == 1
    assert len(caplog.messages) == 1


def test_a_row_from_the_future_hides_no_later_one(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    write("logs/train/a.record.json")
    write("logs/train/b.record.json")
    collect()
    path = Path("results/records.csv")
    path.write_text(path.read_text().replace("2020-01-01", "2999-01-01", 1).replace("300", "three hundred"))
    assert collect() == 2
    assert "2 rows are no records and are left out; the first: train-a: started_utc: " in caplog.messages[0]
    assert set(table()["started_utc"]) == {"2020-01-01T00:00:00"}


@pytest.mark.parametrize("content", [b"", b"stages: 17\n", b"- a\n", b"<<<<<<<\n", b"a: [\n", b"\xff"])
def test_a_pipeline_that_cannot_be_read_drops_no_record(place: Path, content: bytes) -> None:
    write("logs/train/a.record.json")
    Path("dvc.yaml").write_bytes(content)
    assert collect() == 1


def test_what_cannot_be_written_costs_a_warning(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    write("logs/train/a.record.json")
    Path("results/records.csv").mkdir(parents=True)
    assert collect() == 1
    assert any("cannot write results/records.csv" in said for said in caplog.messages)
    assert Path("results/report/records.js").is_file()


def test_unwritable_folder_does_not_fail_the_job(study: Study) -> None:
    (study.folder / "logs").write_text("in the way")
    done = study.run("fetch", "--images", "data/again.safetensors", "--log", "logs/fetch.log")
    assert done.exit_code == 0, done.output
