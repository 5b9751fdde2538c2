"""Both engines agree on what is stale, whatever happened before, and on what a run leaves."""

from __future__ import annotations

import functools
import json
import os
import random
import re
import signal
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from repository import Repository, after_a_run
from ruamel.yaml import YAML

from latent_atlas.files import sealed
from latent_atlas.versioning.pipeline import INPUTS

pytestmark = pytest.mark.engines

PAGE = "src/latent_atlas/report/templates/report.html"
SOURCE = "src/latent_atlas/stages/tangents.py"


@pytest.fixture(scope="session")
def versioned(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A repository after one Snakemake run, committed."""
    return after_a_run(tmp_path_factory)


@pytest.fixture
def study(versioned: Repository, tmp_path: Path) -> Repository:
    """A copy of the finished repository for one test."""
    return versioned.copy(tmp_path / "study")


def test_after_a_run_both_have_nothing_to_do(study: Repository) -> None:
    assert study.stale() == set()
    assert len(study.stages()) == 38
    assert set(study.contents())  # every output of every stage exists


def test_snakemakes_report_has_the_times_of_all_jobs(study: Repository, tmp_path: Path) -> None:
    """Of a clone too, where Snakemake has run none of them."""
    study.run("dvc", "remote", "add", "--default", "shared", str(tmp_path / "remote"))
    study.commit("remote")
    study.run("dvc", "push")
    other = study.clone(tmp_path / "clone")
    other.run("dvc", "pull")
    for each in (study, other):
        done = each.snakemake("--report", "report.zip")
        assert "Missing metadata" not in done.stdout + done.stderr
        with zipfile.ZipFile(each.root / "report.zip") as archive:
            text = archive.read("report/report.html").decode()
        jobs = json.loads(text.partition("    var timeline_spec = ")[2].partition(";\n")[0])["data"]["values"]
        assert len(jobs) == len(each.stages())
        assert all(job["starttime"] < job["endtime"] for job in jobs)
        assert each.run("git", "status", "--porcelain").stdout == ""


def test_edited_parameter(study: Repository) -> None:
    study.edit_params(lambda values: values["tangents"].update(example="one"))
    assert study.stale() == {"tangents-fc4", "tangents-pca2", "tangents-pca2_uncentred", "report"}
    study.repro()
    assert study.stale() == set()


def test_parameters_written_otherwise(study: Repository) -> None:
    study.replace("params.yaml", "peak_learning_rate: 7.0e-3", "peak_learning_rate: 0.007")
    study.edit_params(lambda values: values.update(training=dict(reversed(list(values.pop("training").items())))))
    assert study.stale() == set()


def test_clone_pulls_and_recomputes_nothing(study: Repository, tmp_path: Path) -> None:
    study.run("dvc", "remote", "add", "--default", "shared", str(tmp_path / "remote"))
    study.commit("remote")
    study.run("dvc", "push")
    other = study.clone(tmp_path / "clone")
    assert other.stale() != set()
    assert INPUTS not in other.status()  # what stands for sources and parameters is in git
    other.edit_params(lambda values: values["tangents"].update(example="one"))  # an edit before the pull
    other.run("dvc", "pull")
    edited = {"tangents-fc4", "tangents-pca2", "tangents-pca2_uncentred", "report"}
    assert other.stale() == edited
    other.run("git", "checkout", "params.yaml")
    assert other.stale() == set()
    other.edit_params(lambda values: values["tangents"].update(example="one"))  # and one after it
    assert other.stale() == edited


def test_checkout_of_an_older_revision_and_back(study: Repository) -> None:
    study.edit_params(lambda values: values["tangents"].update(example="one"))
    study.snakemake()
    new = study.commit("other example")
    study.run("git", "checkout", "--quiet", "HEAD~1")
    assert study.stale() != set()  # the outputs on disk belong to the newer revision
    study.run("dvc", "checkout")
    assert study.stale() == set()
    study.run("git", "checkout", "--quiet", new)
    study.run("dvc", "checkout")
    assert study.stale() == set()


@pytest.mark.parametrize("engine", ["snakemake", "repro"])
def test_edited_and_reverted_source(study: Repository, engine: str) -> None:
    study.replace(SOURCE, "strongest first", "the strongest first")
    stale = {"tangents-fc4", "tangents-pca2", "tangents-pca2_uncentred", "report"}
    assert study.stale() == stale
    study.replace(SOURCE, "the strongest first", "strongest first")
    assert study.stale() == set()
    study.replace(SOURCE, "strongest first", "the strongest first")
    getattr(study, engine)()
    assert study.stale() == set()


def test_dvc_sees_an_edit_by_itself(study: Repository) -> None:
    """``dvc status`` names the stage that makes what stands for sources and parameters, ``dvc repro`` runs more."""
    tangents = {"tangents-fc4", "tangents-pca2", "tangents-pca2_uncentred"}
    study.replace(SOURCE, "strongest first", "the strongest first")
    assert study.status() == {INPUTS: [{"changed deps": {SOURCE: "modified"}}]}
    assert _ran(study.repro("train-fc4").stdout) == {INPUTS}
    assert _ran(study.repro().stdout) == {"report", *tangents}
    assert study.status() == {}
    assert study.stale() == set()
    study.edit_params(lambda values: values["tangents"].update(example="one"))
    assert study.status() == {INPUTS: [{"changed deps": {"params.yaml": {"tangents": "modified"}}}]}
    assert _ran(study.repro("tangents-fc4").stdout) == {INPUTS, "tangents-fc4"}
    assert study.status().keys() == {"report", *tangents} - {"tangents-fc4"}
    assert _ran(study.repro().stdout) == {"report", *tangents} - {"tangents-fc4"}
    assert study.status() == {}
    assert study.stale() == set()


def test_dvc_sees_a_new_import_by_itself(study: Repository) -> None:
    """The list that ``dvc repro`` writes names what the source imports now, as Snakemake's does."""
    study.replace(
        SOURCE,
        "from __future__ import annotations",
        "from __future__ import annotations\nimport latent_atlas.geometry.pca",
    )
    assert "tangents-fc4" in _ran(study.repro().stdout)
    assert study.stale() == set()
    study.snakemake("results/pca/summary.csv")  # records what stands for them too
    assert study.status() == {}


def test_damage_to_what_stands_for_sources_and_parameters(study: Repository) -> None:
    for file in (".latent-atlas/sources/stages.tangents.md5", ".latent-atlas/parameters/pca.json"):
        (study.root / file).write_text("by hand", encoding="utf-8")
        assert INPUTS in study.status()
        assert _ran(study.repro().stdout) == {INPUTS}
        (study.root / file).unlink()
        study.snakemake("--dry-run")
        assert study.status() == {}
        assert study.stale() == set()


def _ran(said: str) -> set[str]:
    """The stages that ``dvc repro`` has run."""
    return set(re.findall(r"^Running stage '(.*)':$", said, re.MULTILINE))


def test_deleted_outputs(study: Repository) -> None:
    (study.root / "results/report/index.html").unlink()
    assert study.stale() == {"report"}
    (study.root / "results/reconstruct/fc4/summary.csv").unlink()
    assert study.stale() == study.closure(["reconstruct-fc4"])
    study.run("dvc", "checkout")
    assert study.stale() == set()


def test_touched_files(study: Repository) -> None:
    for file in ("data/images.safetensors", SOURCE, "params.yaml", "results/checkpoints/fc4.safetensors"):
        later = time.time() + 60
        os.utime(study.root / file, (later, later))
    assert study.stale() == set()
    study.replace(SOURCE, "strongest first", "the strongest first")
    os.utime(study.root / SOURCE, (later, later))  # dated later than what is made from it
    study.snakemake()
    assert study.stale() == set()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("engine", [("snakemake", "--cores", "2"), ("dvc", "repro")])
def test_killed_in_mid_run(study: Repository, engine: tuple[str, ...], number: signal.Signals) -> None:
    study.replace(SOURCE, "strongest first", "the strongest first")
    process = study.start(*engine)
    deadline = time.monotonic() + 120
    while not (study.root / "logs/tangents").exists() or not _running(study):
        assert time.monotonic() < deadline, "no job has started"
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.05)
    os.killpg(process.pid, number)
    process.wait(timeout=60)
    study.run("snakemake", "--unlock", check=False)
    assert "report" in study.stale()
    study.snakemake()
    assert study.stale() == set()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("engine", [("snakemake", "--cores", "2"), ("dvc", "repro")])
def test_older_checkpoint_stays_until_a_new_one_is_whole(
    study: Repository, engine: tuple[str, ...], number: signal.Signals
) -> None:
    files = [study.root / "results" / file for file in ("checkpoints/fc4.safetensors", "train/fc4/curve.csv")]
    before = [file.read_bytes() for file in files]
    study.edit_params(lambda values: values["training"].update(epochs=10_000))
    (study.root / "logs/train/fc4.log").unlink()
    process = study.start(*engine)
    deadline = time.monotonic() + 120
    while "epoch" not in _text(study.root / "logs/train/fc4.log"):
        assert time.monotonic() < deadline, "no training has started"
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.05)
    assert [file.read_bytes() for file in files] == before
    os.killpg(process.pid, number)
    process.wait(timeout=60)
    study.run("snakemake", "--unlock", check=False)
    assert [file.read_bytes() for file in files] == before
    assert "train-fc4" in study.stale()
    study.edit_params(lambda values: values["training"].update(epochs=2))
    assert study.stale() == set()


def _text(file: Path) -> str:
    return file.read_text("utf-8") if file.exists() else ""


def _running(study: Repository) -> bool:
    """Whether a tangents job is at work, told by the age of its log."""
    logs = study.root.glob("logs/tangents/*.log")
    return any(time.time() - log.stat().st_mtime < 5 for log in logs)


def test_output_modified_by_hand(study: Repository) -> None:
    table = study.root / "results/jacobian/fc4/examples.csv"
    table.write_text(table.read_text(encoding="utf-8") + "by,hand\n", encoding="utf-8")
    assert study.stale() == study.closure(["jacobian-fc4"])
    study.snakemake()
    assert "by,hand" not in table.read_text(encoding="utf-8")
    assert study.stale() == set()


def test_edited_command(study: Repository) -> None:
    study.replace("workflow/rules/tangents.smk", "latent-atlas tangents ", "latent-atlas  tangents ")
    assert study.stale_for_snakemake() == {"tangents-fc4", "tangents-pca2", "tangents-pca2_uncentred", "report"}
    assert study.stale() == {"tangents-fc4", "tangents-pca2", "tangents-pca2_uncentred", "report"}


def test_part_of_the_work_done_by_one_engine(study: Repository) -> None:
    study.edit_params(lambda values: values["tangents"].update(example="one"))
    study.repro("tangents-fc4")
    assert study.stale() == {"tangents-pca2", "tangents-pca2_uncentred", "report"}
    study.snakemake("results/tangents/pca2/columns.png")
    assert study.stale() == {"tangents-pca2_uncentred", "report"}
    study.repro()
    assert study.stale() == set()


def test_new_model_enters_the_pipeline_by_itself(study: Repository) -> None:
    study.edit_params(lambda values: values["models"].update(fc3={"architecture": "fully_connected", "latent_dim": 3}))
    stale = study.stale()
    assert {"train-fc3", "reconstruct-fc3", "report"} <= stale
    assert not any(name.endswith(("-fc4", "-pca2")) for name in stale)


def test_early_cutoff_by_dvc(study: Repository) -> None:
    study.replace("src/latent_atlas/stages/fetch.py", "import tempfile", "import tempfile  # a comment")
    assert "train-fc4" in study.stale()
    done = study.repro()
    assert "Running stage 'fetch'" in done.stdout
    assert "Running stage 'train-fc4'" not in done.stdout
    assert study.stale() == set()


def test_dvc_where_nobody_has_activated_the_environment(study: Repository) -> None:
    tools = Path(sys.executable).parent
    (study.root / ".venv").mkdir()
    (study.root / ".venv" / "bin").symlink_to(tools)
    study.run("env", "PATH=/usr/bin:/bin", str(tools / "dvc"), "repro", "--single-item", "--force", "jacobian_summary")
    assert study.stale() == set()


def test_early_cutoff_by_snakemake(study: Repository) -> None:
    study.replace("src/latent_atlas/stages/fetch.py", "import tempfile", "import tempfile  # a comment")
    done = study.snakemake()
    said = done.stdout + done.stderr
    assert "[fetch]" in said
    assert "[train fc4]" not in said
    assert "Left out train-fc4" in said
    assert study.stale() == set()


def test_no_early_cutoff_where_a_job_is_forced(study: Repository) -> None:
    done = study.snakemake("--forcerun", "tangents", "--", "results/tangents/pca2/columns.png")
    assert "[tangents pca2]" in done.stdout + done.stderr
    assert study.stale() == set()


@pytest.mark.parametrize("arguments", [(), ("--keep-going", "--keep-incomplete")])
def test_failed_job(study: Repository, arguments: tuple[str, ...]) -> None:
    study.replace(SOURCE, '    log.info(f"{columns', '    raise SystemExit(3)\n    log.info(f"{columns')
    done = study.snakemake(*arguments, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    stale = {"tangents-fc4", "tangents-pca2", "tangents-pca2_uncentred", "report"}
    assert study.stale() == stale  # outputs of failed jobs do not count
    study.run("git", "checkout", "--quiet", SOURCE)
    study.snakemake()  # and no lock is left behind
    assert study.stale() == set()


def test_params_edited_while_a_job_runs(study: Repository) -> None:
    study.edit_params(lambda values: values["tangents"].update(example="one"))
    study.replace(
        "workflow/rules/tangents.smk",
        "latent-atlas tangents ",
        "sed -i 's/^  example: one/  example: zero/' params.yaml; latent-atlas tangents ",
    )
    study.snakemake("results/tangents/pca2/columns.png")
    study.edit_params(lambda values: values["tangents"].update(example="one"))
    assert "tangents-pca2" in study.stale()


def test_new_model_by_its_file(study: Repository) -> None:
    study.edit_params(lambda values: values["models"].update(fc3={"architecture": "fully_connected", "latent_dim": 3}))
    study.snakemake("results/checkpoints/fc3.safetensors")
    assert "train-fc3" in study.stages()
    stale = study.stale()
    assert "train-fc3" not in stale
    assert "reconstruct-fc3" in stale


def test_touch_does_not_make_anything_current(study: Repository) -> None:
    study.replace(SOURCE, "strongest first", "the strongest first")
    stale = study.stale()
    study.snakemake("--touch")
    assert study.stale() == stale


def test_journal_outlives_a_run_for_something_else(study: Repository) -> None:
    """As after a kill between the end of a job and its record: another run must not forget it."""
    entry = {"train-fc4": _lock(study)["train-fc4"]}
    lock = study.root / "dvc.lock"
    text = lock.read_text(encoding="utf-8")
    start = text.index("  train-fc4:")
    stop = text.index("\n  ", text.index("outs:", start) + 1)
    while text[stop + 3] == " " or text[stop + 3] == "-":
        stop = text.index("\n  ", stop + 1)
    lock.write_text(text[: start - 1] + text[stop:], encoding="utf-8")
    assert "train-fc4" not in _lock(study)
    journal = study.root / ".dvc/tmp/ended-jobs.jsonl"
    journal.write_text(sealed({"stages": entry}) + "\n" + '{"cut sho', encoding="utf-8")
    study.snakemake("results/pca/summary.csv")
    assert study.stale() == set()
    assert not journal.exists()


def _lock(study: Repository) -> dict:
    return YAML(typ="safe").load((study.root / "dvc.lock").read_text(encoding="utf-8"))["stages"]


def test_dvc_yaml_edited_by_hand(study: Repository) -> None:
    study.replace("dvc.yaml", "latent-atlas report", "latent-atlas --version; latent-atlas report")
    refused = study.run("latent-atlas", "pipeline", "--check", check=False)
    assert refused.returncode == 1
    assert "run latent-atlas pipeline" in refused.stderr
    study.run("latent-atlas", "pipeline")
    assert study.stale() == set()
    study.run("latent-atlas", "pipeline", "--check")


@pytest.mark.parametrize("arguments", [("--dry-run",), ("--summary",), ("--list-changes", "code"), ("--touch",)])
def test_dry_run_writes_nothing(study: Repository, arguments: tuple[str, ...]) -> None:
    study.replace("dvc.yaml", "latent-atlas report", "latent-atlas --version; latent-atlas report")
    journal = study.root / ".dvc/tmp/ended-jobs.jsonl"
    journal.write_text(sealed({"stages": {"train-fc4": _lock(study)["train-fc4"]}}) + "\n", encoding="utf-8")
    files = [study.root / "dvc.yaml", study.root / "dvc.lock", journal]
    before = [(file.read_bytes(), file.stat().st_mtime_ns) for file in files]
    study.snakemake(*arguments)
    assert [(file.read_bytes(), file.stat().st_mtime_ns) for file in files] == before


def test_summary_and_changes_are_true(study: Repository) -> None:
    def statuses() -> dict[str, str]:
        lines = study.snakemake("--summary").stdout.splitlines()
        rows = [line.split("\t") for line in lines if line.startswith(("results/", "data/"))]
        return {row[0]: row[-2] for row in rows}

    def listed(change: str) -> set[str]:
        lines = study.snakemake("--list-changes", change).stdout.splitlines()
        return {line for line in lines if line.startswith(("results/", "data/"))}

    assert set(statuses().values()) == {"ok"}
    assert [listed(change) for change in ("code", "input", "params")] == [set(), set(), set()]
    study.edit_params(lambda values: values["tangents"].update(example="one"))
    study.replace("workflow/rules/tangents.smk", "latent-atlas tangents ", "latent-atlas  tangents ")
    study.replace("src/latent_atlas/stages/pca.py", "from __future__", "# a comment\nfrom __future__")
    tangents = {file for file in statuses() if file.startswith("results/tangents/") and file.count("/") == 3}
    assert tangents
    assert listed("code") == tangents
    page = {file for file in statuses() if file.startswith("results/report/") and "/explorer" not in file}
    assert "results/report/index.html" in page
    assert listed("params") == tangents | page  # the report reads all parameters
    assert "results/pca/summary.csv" in listed("input")
    assert not listed("input") & tangents
    assert {status for file, status in statuses().items() if file in tangents} == {"rule implementation changed"}


def test_config_on_the_command_line_is_refused(study: Repository) -> None:
    done = study.snakemake("--dry-run", "--config", "epochs=3", check=False)
    assert done.returncode
    assert "edit params.yaml" in done.stdout + done.stderr


def test_without_git_everything_works_but_versioning(versioned: Repository, tmp_path: Path) -> None:
    study = versioned.copy(tmp_path / "archive")
    study.run("rm", "-rf", ".git", ".dvc", ".snakemake")
    (study.root / "results/pca/summary.csv").unlink()
    done = study.snakemake("results/train/summary.csv", "results/pca/summary.csv")
    assert (done.stdout + done.stderr).count("nothing is versioned") == 1
    assert (study.root / "results/pca/summary.csv").exists()
    assert not (study.root / ".dvc").exists()


def test_corrupt_or_missing_cache_object(study: Repository) -> None:
    cache = study.root / ".dvc/cache/files/md5"
    victim = max((path for path in cache.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    victim.chmod(0o644)
    victim.write_bytes(b"damaged")
    (study.root / "data/images.safetensors").unlink()
    assert "fetch" in study.stale()
    study.run("dvc", "checkout", check=False)  # DVC finds the damage and drops the object
    study.snakemake("data/images.safetensors")
    assert study.stale() == set()


def test_two_versions_of_one_checkpoint_are_merged(study: Repository) -> None:
    def trained(seed: int) -> None:
        study.edit_params(lambda values: values["training"].update(seed=seed))
        study.snakemake("results/train/summary.csv", "results/jacobian/summary.csv")
        study.commit(f"seed {seed}")

    study.run("git", "branch", "theirs")
    trained(1)
    study.run("git", "checkout", "--quiet", "theirs")
    study.run("dvc", "checkout")
    trained(2)
    stale = study.stale()  # what nobody has asked for since
    assert not stale & {"train-fc4", "train_summary", "jacobian-fc4", "jacobian_summary"}
    conflict = study.run("git", "merge", "main", check=False)
    assert conflict.returncode
    study.run("git", "checkout", "--ours", "params.yaml")
    broken = study.snakemake("--dry-run", check=False)
    assert broken.returncode
    assert "git checkout --ours" in broken.stdout + broken.stderr
    study.run("git", "checkout", "--ours", ".")  # the documented way out: choose one side, then let either engine mend
    study.run("dvc", "checkout", check=False)
    assert study.stale() == stale
    study.commit("merged")


def test_metrics_params_plots_and_dag(study: Repository) -> None:
    shown = study.run("dvc", "metrics", "show").stdout
    assert "fc4.mse" in shown
    study.edit_params(lambda values: values["models"]["fc4"].update(latent_dim=3))
    assert "models.fc4.latent_dim" in study.run("dvc", "params", "diff").stdout
    stale = study.stale()
    assert "train-fc4" in stale
    assert not any(name.endswith(("-pca2", "-pca2_uncentred")) for name in stale)
    study.repro("--glob", "train-*")
    assert "train-fc4" not in study.stale()
    study.repro("reconstruct_summary")
    assert "fc4.mse" in study.run("dvc", "metrics", "diff").stdout
    assert "train-fc4" in study.run("dvc", "dag", "--dot").stdout
    study.run("dvc", "plots", "show")
    study.run("dvc", "plots", "diff")


def test_story_of_two_people(study: Repository, tmp_path: Path) -> None:
    study.run("dvc", "remote", "add", "--default", "lab", str(tmp_path / "remote"))
    study.edit_params(lambda values: values["models"].update(fc3={"architecture": "fully_connected", "latent_dim": 3}))
    study.snakemake()
    study.commit("two models")
    study.run("dvc", "push")
    study.run("git", "config", "receive.denyCurrentBranch", "updateInstead")

    other = study.clone(tmp_path / "clone")
    other.run("dvc", "pull")
    assert other.stale() == set()
    other.edit_params(lambda values: values["models"]["fc3"].update(latent_dim=5))
    stale = other.stale()
    assert {name for name in stale if name.endswith("-fc3")} == {
        name for name in other.stages() if name.endswith("-fc3")
    }
    assert not any(name.endswith(("-fc4", "-pca2", "-pca2_uncentred")) for name in stale)
    assert not stale & {"fetch", "pca", "interpolate_pixels"}
    other.snakemake()
    assert other.stale() == set()
    other.commit("five dimensions")
    other.run("dvc", "push")
    other.run("git", "push", "--quiet", "origin", "main")

    study.run("git", "reset", "--quiet", "--hard", "main")
    study.run("dvc", "pull")
    assert study.stale() == set()
    assert "fc3.latent_dim" in study.run("dvc", "metrics", "diff", "HEAD~1").stdout


def test_read_only_remote_over_http(study: Repository, tmp_path: Path) -> None:
    study.run("dvc", "remote", "add", "--default", "folder", str(tmp_path / "remote"))
    study.run("dvc", "push")
    with _web_server(tmp_path / "remote") as address:
        study.run("dvc", "remote", "add", "--default", "web", address)
        study.commit("remote")
        other = study.clone(tmp_path / "clone")
        other.run("dvc", "pull")
        assert other.stale() == set()


def test_manifold_straight_from_a_repository_and_revision(study: Repository, tmp_path: Path) -> None:
    study.run("dvc", "remote", "add", "--default", "lab", str(tmp_path / "remote"))
    study.commit("remote")
    study.run("git", "tag", "v1")
    study.run("dvc", "push")
    code = (
        "from latent_atlas import load; "
        f"root = {str(study.root)!r}; "
        "print(load('fc4', repository=root, revision='v1').latent_dim, load('pca2', repository=root).latent_dim)"
    )
    assert study.run("python", "-c", code).stdout.split() == ["4", "2"]
    target = tmp_path / "fc4.safetensors"
    study.run("dvc", "get", str(study.root), "results/checkpoints/fc4.safetensors", "--out", str(target))
    assert target.read_bytes() == (study.root / "results/checkpoints/fc4.safetensors").read_bytes()
    unknown = study.run("python", "-c", code.replace("'fc4'", "'fc5'"), check=False)
    assert "does not give results/checkpoints/fc5.safetensors" in unknown.stderr


def test_remote_lost_in_the_middle_of_a_push(study: Repository, tmp_path: Path) -> None:
    blocked = tmp_path / "remote"
    study.run("dvc", "remote", "add", "--default", "lab", str(blocked))
    study.commit("remote")
    study.run("dvc", "push", "train-fc4")
    (blocked / "files").rename(tmp_path / "elsewhere")
    blocked.rmdir()
    blocked.write_text("no folder any more")
    refused = study.run("dvc", "push", check=False)
    assert refused.returncode
    assert study.stale() == set()  # nothing here is lost
    blocked.unlink()
    blocked.mkdir()
    (tmp_path / "elsewhere").rename(blocked / "files")
    study.run("dvc", "push")
    other = study.clone(tmp_path / "clone")
    other.run("dvc", "pull")
    assert other.stale() == set()


def test_experiment(study: Repository) -> None:
    study.run("dvc", "exp", "run", "--set-param", "tangents.example=one")
    assert "example: one" in (study.root / "params.yaml").read_text(encoding="utf-8")
    assert study.stale() == set()


@contextmanager
def _web_server(folder: Path) -> Iterator[str]:
    """A plain web server on loopback over a folder; its address."""
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


EDITS = ("example", "source", "touch", "delete", "hand", "revert", "commit", "checkout")


def _step(study: Repository, step: str, chance: random.Random) -> None:
    outs = ["results/tangents/pca2/columns.png", "results/report/index.html", "results/jacobian/summary.csv"]
    match step:
        case "example":
            study.edit_params(lambda values: values["tangents"].update(example=chance.choice(["zero", "one"])))
        case "source":
            page = study.root / PAGE
            page.write_text(page.read_text(encoding="utf-8") + f"<!-- {chance.randrange(3)} -->\n", encoding="utf-8")
        case "touch":
            when = time.time() + chance.randrange(-1000, 1000)
            os.utime(study.root / chance.choice([PAGE, SOURCE, "data/images.safetensors"]), (when, when))
        case "delete":
            (study.root / chance.choice(outs)).unlink(missing_ok=True)
        case "hand":
            path = study.root / chance.choice(outs)
            if path.exists():
                path.write_bytes(path.read_bytes() + b" ")
        case "revert":
            study.run("git", "checkout", "--quiet", "--", "params.yaml", "src")
        case "commit":
            study.commit("step")
        case "checkout":
            study.run("dvc", "checkout", "--force", check=False)
        case "snakemake":
            study.snakemake()
        case "repro":
            study.repro()
        case "records":
            study.run("rm", "-rf", ".snakemake")


def _run_random_sequence(study: Repository, seed: int, steps: int) -> None:
    chance = random.Random(seed)  # noqa: S311
    kinds = [*EDITS, "snakemake", "repro", "records"]
    for step in chance.sample([*kinds, *chance.choices(kinds, k=steps - len(kinds))], steps):  # each kind at least once
        _step(study, step, chance)
        study.stale()
    study.snakemake()
    assert study.stale() == set()


def _assert_equal_to_a_fresh_run(study: Repository, folder: Path) -> None:
    fresh = study.copy(folder)
    fresh.run("rm", "-rf", ".snakemake", ".dvc/cache", "dvc.lock", "results", "data", "logs")
    fresh.snakemake()
    mine, theirs = study.contents(), fresh.contents()
    assert mine.keys() == theirs.keys()
    assert [out for out in mine if mine[out] != theirs[out]] == []


@pytest.mark.slow  # a shorter one, with damage and kills, is in tests/fuzz/test_events.py
def test_random_sequence(study: Repository, tmp_path: Path) -> None:
    _run_random_sequence(study, seed=1, steps=16)
    _assert_equal_to_a_fresh_run(study, tmp_path / "fresh")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 8))
def test_more_random_sequences(study: Repository, tmp_path: Path, seed: int) -> None:
    _run_random_sequence(study, seed, steps=40)
    _assert_equal_to_a_fresh_run(study, tmp_path / "fresh")
