"""Small files that stand for source files and for parameters."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from latent_atlas.study import sources
from latent_atlas.study.inputs import inputs
from latent_atlas.versioning import lists, pipeline
from latent_atlas.versioning.common import VersioningError

LIST = str(lists.FOLDER / "both.md5")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with two files."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lists, "_in_use", set())
    Path("one.py").write_text("1\n")
    Path("two files.py").write_text("2\n")
    return tmp_path


def written() -> str:
    """A list of both files, as a new process writes it."""
    lists._checksum.cache_clear()
    return lists.write(Path(LIST), [Path("two files.py"), Path("one.py")])


def test_names_its_files_and_their_checksums(folder: Path) -> None:
    assert written() == LIST
    assert list(lists.content(LIST)) == ["one.py", "two files.py"]
    assert lists.behind(["one.py", LIST]) == lists.content(LIST)
    assert subprocess.run(["md5sum", "--check", "--quiet", LIST], check=False).returncode == 0


def test_is_written_only_if_a_file_has_changed(folder: Path) -> None:
    path = Path(written())
    before = path.read_bytes()
    os.utime(path, ns=(1, 1))
    os.utime("one.py", ns=(2, 2))
    written()
    assert (path.stat().st_mtime_ns, path.read_bytes()) == (1, before)
    Path("one.py").write_text("3\n")
    written()
    assert path.stat().st_mtime_ns > 1
    assert path.read_bytes() != before


def test_that_cannot_be_read(folder: Path) -> None:
    Path(written()).write_bytes(b"\xff")
    with pytest.raises(VersioningError, match=r"both\.md5 cannot be read .* delete it"):
        lists.content(LIST)


def test_of_a_stage_name_exactly_its_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(sources.PACKAGE.parents[1])
    network = sources.architecture("convolutional")
    asked = sources.inputs("jacobian", network)
    assert lists.behind(asked).keys() == set(sources.sources("jacobian", network))
    assert len(asked) == 2


def test_values_are_in_a_file_named_by_their_keys(folder: Path) -> None:
    path = lists.values_file(["training", "models.a"])
    assert path == str(lists.VALUES / "models.a+training.json")
    assert lists.keys(path) == ["models.a", "training"]
    lists.write_values(path, {"training": {"b": 1, "a": 5e-3}, "models.a": {1: None}})
    assert json.loads(Path(path).read_text()) == {"models.a": {"1": None}, "training": {"a": 0.005, "b": 1}}
    os.utime(path, ns=(1, 1))
    lists.write_values(path, {"models.a": {"1": None}, "training": {"a": 0.005, "b": 1}})
    assert Path(path).stat().st_mtime_ns == 1


@pytest.mark.parametrize("keys", [["a/b"], ["a b"], [f"key{number}" for number in range(99)]])
def test_keys_that_make_no_name_have_no_file(keys: list[str]) -> None:
    assert lists.values_file(keys) is None


def test_what_no_job_asks_for_is_removed(folder: Path) -> None:
    for name in ("models.gone.md5", "both.md5"):
        lists.FOLDER.mkdir(parents=True, exist_ok=True)
        (lists.FOLDER / name).write_text("")
    written()
    lists.remove_others()
    assert [file.name for file in lists.FOLDER.iterdir()] == ["both.md5"]


def test_the_command_writes_what_the_stage_of_dvc_yaml_names(folder: Path) -> None:
    keys = ["models.a", "training"]
    values = lists.values_file(keys)
    assert values is not None
    job = pipeline.Job("train-a", "train", (values,), ("a",), dict.fromkeys(keys), values)
    stage = pipeline.inputs_of([job])
    assert stage is not None
    Path("dvc.yaml").write_text(pipeline.render([job, stage], {}))
    Path("params.yaml").write_text("models: {a: {k: 2}, b: {k: 3}}\ntraining: 5e-3\n")
    done = CliRunner().invoke(inputs)
    assert done.exit_code == 0, done.output
    assert json.loads(Path(values).read_text()) == {"models.a": {"k": 2}, "training": 0.005}


def test_the_command_where_there_is_no_such_stage(folder: Path) -> None:
    done = CliRunner().invoke(inputs)
    assert done.exit_code == 1
    assert "run latent-atlas pipeline" in done.output
    stage = {"cmd": "x", "outs": [str(lists.FOLDER / "stages.gone.md5")]}
    Path("dvc.yaml").write_text(json.dumps({"stages": {pipeline.INPUTS: stage}}))
    done = CliRunner().invoke(inputs)
    assert done.exit_code == 1
    assert "latent_atlas.stages.gone, which is not there: run latent-atlas pipeline" in done.output
