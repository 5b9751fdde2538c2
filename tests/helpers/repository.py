"""A small repository with the real pipeline in it, and what both engines say of it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import warm
from ruamel.yaml import YAML
from support import made_once

from latent_atlas.versioning.pipeline import INPUTS

PROJECT = Path(__file__).resolve().parents[2]
PARTS = ("Snakefile", "params.yaml", "profiles", "src", "workflow", "pyproject.toml", ".gitignore", ".dvcignore")


class Repository:
    """A folder with a copy of the project, run with the sources of the copy.

    Parameters
    ----------
    root : Path
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.extra: dict[str, str] = {}  # of the environment; its PATH comes first
        self.warm = warm.POSSIBLE  # commands begin in interpreters that have loaded the packages

    @classmethod
    def make(cls, root: Path) -> Repository:
        """A new repository under git and DVC with a small study, one model and PCA on scikit-learn's digits."""
        root.mkdir(parents=True)
        for part in PARTS:
            source = PROJECT / part
            if source.is_dir():
                shutil.copytree(source, root / part, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
            elif source.exists():
                shutil.copy(source, root / part)
        repository = cls(root)
        repository.edit_params(make_small)
        repository.run("git", "init", "--quiet", "--initial-branch", "main")
        repository.run("git", "config", "user.email", "test@example.org")
        repository.run("git", "config", "user.name", "test")
        repository.run("dvc", "init", "--quiet")
        repository.run("dvc", "config", "core.analytics", "false")
        repository.commit("study")
        return repository

    def copy(self, root: Path) -> Repository:
        """A copy of the whole folder, times and all."""
        shutil.copytree(self.root, root, symlinks=True, copy_function=shutil.copy2)
        return Repository(root)

    def from_nothing(self, root: Path) -> Repository:
        """A copy of which nothing is made."""
        made = shutil.ignore_patterns(".snakemake", "cache", "tmp", "dvc.lock", "results", "data", "logs")

        def left_out(folder: str, names: list[str]) -> set[str]:
            return set() if folder.startswith(str(self.root / "src")) else made(folder, names)

        shutil.copytree(self.root, root, ignore=left_out)
        return Repository(root)

    def clone(self, root: Path) -> Repository:
        """A git clone, as another person would have it: no results but those in git."""
        subprocess.run(["git", "clone", "--quiet", str(self.root), str(root)], check=True)
        other = Repository(root)
        other.run("git", "config", "user.email", "other@example.org")
        other.run("git", "config", "user.name", "other")
        return other

    # commands

    @property
    def environment(self) -> dict[str, str]:
        """The environment of commands: this interpreter's tools, the copy's sources, no threads, no phoning home."""
        tools = [str(warm.tools())] * self.warm + [str(Path(sys.executable).parent)]
        path = os.pathsep.join([*filter(None, [self.extra.get("PATH")]), *tools, os.environ["PATH"]])
        quiet = {"DVC_NO_ANALYTICS": "1", "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        if self.warm:  # such commands have loaded torch already
            quiet["LATENT_ATLAS_FORK_SERVER"] = "off"
        sources = self.root / "src" if (self.root / "src").is_dir() else PROJECT / "src"
        return os.environ | self.extra | {"PATH": path, "PYTHONPATH": str(sources)} | quiet

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in the repository."""
        done = subprocess.run(command, cwd=self.root, env=self.environment, capture_output=True, text=True, check=False)
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)} failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
        return done

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """Start a command in a process group of its own with all that it starts, to be interrupted."""
        cold = Repository(self.root)
        cold.extra, cold.warm = self.extra, False
        return subprocess.Popen(
            command,
            cwd=self.root,
            env=cold.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            # a shell's background jobs ignore this signal, and so would all that is started from them
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def snakemake(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the pipeline by Snakemake."""
        return self.run("snakemake", "--cores", "2", *arguments, check=check)

    def repro(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the pipeline by DVC."""
        return self.run("dvc", "repro", *arguments)

    def commit(self, message: str) -> str:
        """Commit everything to git; its hash."""
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--allow-empty", "--message", message)
        return self.run("git", "rev-parse", "HEAD").stdout.strip()

    # edits

    def edit_params(self, change: Callable[[dict], None], file: str = "params.yaml") -> None:
        """Change the parameter file and write it anew."""
        yaml = YAML()
        # Values that stand twice are written twice: parameter files hold no anchors.
        yaml.representer.ignore_aliases = lambda *_: True
        path = self.root / file
        values = yaml.load(path.read_text(encoding="utf-8"))
        change(values)
        with path.open("w", encoding="utf-8") as handle:
            yaml.dump(values, handle)

    def replace(self, file: str, old: str, new: str) -> None:
        """Replace text in a file of the repository."""
        path = self.root / file
        text = path.read_text(encoding="utf-8")
        assert old in text, f"{file} holds no {old!r}"
        path.write_text(text.replace(old, new), encoding="utf-8")

    # what the engines say

    def stale_for_snakemake(self) -> set[str]:
        """Names of the stages that Snakemake would run."""
        done = self.run("snakemake", "--cores", "2", "--dry-run", "--quiet", "host")
        found: list[list[str]] = []
        for line in (done.stdout + done.stderr).splitlines():
            if head := re.match(r"(?:local)?rule (\w+):$", line):
                found.append([head.group(1)])
            elif values := re.match(r"    wildcards: (.*)$", line):
                found[-1] += [pair.partition("=")[2] for pair in values.group(1).split(", ")]
        return {"-".join(parts) for parts in found} - {"all", "study"}

    def stale_for_dvc(self) -> set[str]:
        """Names of the stages that DVC calls changed, and of all that come after them, by what stands for sources and
        parameters now; whether the stage that makes this has run since is left out.
        """
        return self.closure(self.status().keys() - {INPUTS})

    def status(self) -> dict[str, list]:
        """What ``dvc status`` says of each stage that has changed."""
        return json.loads(self.run("dvc", "status", "--json").stdout.strip().splitlines()[-1])

    def closure(self, stages: Iterable[str]) -> set[str]:
        """Stages and all that depend on them, by the files of dvc.yaml."""
        pipeline = YAML(typ="safe").load((self.root / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
        maker = {_path(out): name for name, stage in pipeline.items() for out in stage.get("outs", [])}
        after: dict[str, set[str]] = {name: set() for name in pipeline}
        for name, stage in pipeline.items():
            for dep in stage.get("deps", []):
                if dep in maker:
                    after[maker[dep]].add(name)
        found, todo = set(), list(stages)
        while todo:
            name = todo.pop()
            if name not in found:
                found.add(name)
                todo += after[name]
        return found

    def stale(self) -> set[str]:
        """The stages that both engines would run, by a dvc.yaml that is up to date; they must agree."""
        self.run("latent-atlas", "pipeline")
        by_snakemake = self.stale_for_snakemake()
        by_dvc = self.stale_for_dvc()
        assert by_snakemake == by_dvc, (
            f"only Snakemake: {sorted(by_snakemake - by_dvc)}; only DVC: {sorted(by_dvc - by_snakemake)}"
        )
        return by_snakemake

    def stages(self) -> set[str]:
        """The stages of dvc.yaml that rules have made."""
        return set(YAML(typ="safe").load((self.root / "dvc.yaml").read_text(encoding="utf-8"))["stages"]) - {INPUTS}

    def contents(self, whole: bool = True) -> dict[str, bytes]:
        """Every output of every stage, byte by byte; of a run to some targets, those that are there."""
        pipeline = YAML(typ="safe").load((self.root / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
        outs = [_path(out) for stage in pipeline.values() for out in stage.get("outs", [])]
        return {out: (self.root / out).read_bytes() for out in outs if whole or (self.root / out).exists()}


def _path(out: str | dict[str, object]) -> str:
    return out if isinstance(out, str) else next(iter(out))


def after_a_run(factory: pytest.TempPathFactory) -> Repository:
    """A repository in which Snakemake has made everything, committed: once for all processes that share the tests.

    Tests change copies of it only.
    """

    def make(folder: Path) -> None:
        repository = Repository.make(folder)
        repository.snakemake()
        repository.commit("results")

    return Repository(made_once(factory, "after_a_run", make))


def make_small(values: dict) -> None:
    """A study of one model on a few digits, so that every job takes little more than its start."""
    values["dataset"] = {"name": "digits", "colour": "grey", "folder": None, "limit": 200}
    values["models"] = {"fc4": {"architecture": "fully_connected", "latent_dim": 4, "options": {"widths": [16, 8]}}}
    values["training"].update(epochs=2, min_steps=1, batch_size=64)
    values["pca"]["latent_dims"] = [2]
    values["reconstruct"]["shown"] = 4
    values["sample"] = {"split": "test", "size": 10, "seed": 0}
    values["examples"] = {"zero": "train/0", "one": "train/1"}
    values["interpolate"] = {"pairs": {"pair": ["zero", "one"]}, "steps": 4, "shown": 3}
    values["geodesics"] = {"pairs": 2, "nodes": 4, "seed": 0}
    values["tangents"]["example"] = "zero"
    moves = values["invariance"]
    moves["transformations"] = {"shift_x": {"step": 1.0}, "brightness": {"step": 5.0}}
    moves["pictures"] = ["zero"]
    moves["step_study"] = {"example": "zero", "transformations": ["shift_x"], "steps": [0.5, 1.0]}
    moves["epoch_study"] = {"example": "zero", "transformations": ["shift_x"]}
