"""What is kept when dvc.yaml is written anew."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from dvc.parsing.context import Context
from ruamel.yaml import YAML

from latent_atlas.versioning import lists, pipeline
from latent_atlas.versioning.pipeline import Job

TRAIN = Job("train-a", "train a", ("data",), ("a",))


def test_stages_of_a_users_own_and_frozen_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "dvc.yaml"
    jobs = [TRAIN, Job("train-b", "train b", ("data",), ("b",)), Job("test", "test a", ("a",), ("t",))]
    assert pipeline.write(path, pipeline.render(jobs, {}, "", ["test", "train"]))
    document = YAML().load(path)
    document["stages"]["train-a"]["frozen"] = True
    document["stages"]["mine"] = {"cmd": "plot a", "deps": ["a"]}
    YAML().dump(document, path)  # as DVC does: in its own form, comments kept
    text = pipeline.current(path)
    assert pipeline.same(text, pipeline.render(jobs, {}, text, ["test", "train"]))
    assert pipeline.holds(path, jobs, {})
    kept = pipeline.render([replace(TRAIN, command="train a more")], {}, text, ["train"])  # a job and a rule are gone
    stages = YAML(typ="safe").load(kept)["stages"]
    assert set(stages) == {"train-a", "mine"}
    assert stages["train-a"] == {"cmd": "train a more", "deps": ["data"], "outs": ["a"], "frozen": True}


def test_a_stage_whose_outputs_a_job_makes_is_not_kept() -> None:
    """As one of a rule that has been renamed since: DVC refuses two stages that make the same file."""
    before = "stages:\n  old:\n    cmd: make a\n    outs:\n    - a:\n        cache: false\n    - more\n"
    stages = YAML(typ="safe").load(pipeline.render([TRAIN], {}, before, ["train"]))["stages"]
    assert set(stages) == {"train-a"}


def test_one_stage_makes_what_stands_for_sources_and_parameters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("source.py").write_text("1")
    names, values = lists.write(lists.FOLDER / "train.md5", [Path("source.py")]), lists.values_file(["k"])
    assert values is not None
    jobs = [Job(f"train-{name}", "train", ("data", names, values), (name,), {"k": 1}, values) for name in "ab"]
    inputs = pipeline.inputs_of(jobs)
    assert inputs is not None
    path = tmp_path / "dvc.yaml"
    path.write_text(pipeline.render([*jobs, inputs], {}, "", ["train"]))
    stages = YAML(typ="safe").load(path)["stages"]
    assert stages["train-a"] == {"cmd": "train", "deps": [values, names, "data"], "outs": ["a"]}
    kept = {"cache": False, "persist": True}
    assert stages[pipeline.INPUTS] == {
        "cmd": f"{pipeline.FIND}latent-atlas inputs",
        "deps": ["source.py"],
        "params": ["k"],
        "outs": [{values: kept}, {names: kept}],
    }
    assert pipeline.inputs_in(path.read_text(), {"k": 1}) == inputs
    assert pipeline.holds(path, jobs[:1], {})
    (tmp_path / "more.py").write_text("2")
    lists.write(Path(names), [Path("source.py"), Path("more.py")])  # as when the source imports another
    assert not pipeline.holds(path, jobs[:1], {})
    assert (
        pipeline.INPUTS
        not in YAML(typ="safe").load(pipeline.render([TRAIN], {}, path.read_text(), ["train"]))["stages"]
    )


def test_text_that_dvc_would_fill_in_stays_as_it_is() -> None:
    job = Job("echo", "echo ${HOME} $(date) {b} > a", ("x${HOME}",), ("a",))
    stage = YAML(typ="safe").load(pipeline.render([job], {}))["stages"]["echo"]
    assert Context().resolve_str(stage["cmd"]) == job.command
    assert Context().resolve_str(stage["deps"][0]) == job.deps[0]
