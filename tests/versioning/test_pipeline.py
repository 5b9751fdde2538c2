"""What is kept when dvc.yaml is written anew."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dvc.parsing.context import Context
from ruamel.yaml import YAML

from latent_atlas.versioning import pipeline
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


def test_text_that_dvc_would_fill_in_stays_as_it_is() -> None:
    job = Job("echo", "echo ${HOME} $(date) {b} > a", ("x${HOME}",), ("a",))
    stage = YAML(typ="safe").load(pipeline.render([job], {}))["stages"]["echo"]
    assert Context().resolve_str(stage["cmd"]) == job.command
    assert Context().resolve_str(stage["deps"][0]) == job.deps[0]
