"""The workflow: what a rule depends on, what an edit reruns, and one whole run."""

from __future__ import annotations

import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from snakemake.io import AnnotatedString
from support import ROOT, SMALL, Study, planned

from latent_atlas.errors import ParamsError
from latent_atlas.study import sources as workflow
from latent_atlas.study.manifolds import manifolds
from latent_atlas.study.schema import DatasetParams


@dataclass
class Job:
    """What a dry run says of one job."""

    rule: str
    inputs: list[str]
    wildcards: list[str]
    command: str


def jobs(done: subprocess.CompletedProcess[str]) -> list[Job]:
    """The jobs of a dry run that was asked for details and commands."""
    assert done.returncode == 0, done.stdout + done.stderr
    _, *blocks = re.split(r"^ *(?:local)?rule (\w+):$", done.stdout + done.stderr, flags=re.MULTILINE)

    def entry(block: str, key: str) -> list[str]:
        found = re.search(rf"^ +{key}: (.*)$", block, flags=re.MULTILINE)
        return found[1].split(", ") if found else []

    return [
        Job(
            rule,
            entry(block, "input"),
            [pair.partition("=")[2] for pair in entry(block, "wildcards")],
            " ".join(re.findall(r"^.*\b(latent-atlas .*)$", block, flags=re.MULTILINE)),
        )
        for rule, block in zip(blocks[::2], blocks[1::2], strict=True)
    ]


def names(paths: list[str]) -> set[str]:
    """The last parts of paths."""
    return {Path(path).name for path in paths}


class TestSources:
    """The source files that a stage's results depend on."""

    def test_of_training_one_architecture(self) -> None:
        found = names(workflow.sources("train", workflow.architecture("convolutional")))
        assert {"train.py", "loop.py", "convolutional.py", "images.py", "files.py"} <= found
        assert not found & {"fully_connected.py", "cli.py", "config.py", "command.py", "workflow.py", "pca.py"}

    def test_of_fetching(self) -> None:
        found = names(workflow.sources("fetch", *workflow.dataset(DatasetParams(name="FashionMNIST"))))
        assert {"fetch.py", "idx.py", "images.py"} <= found
        assert not found & {"training.py", "train.py", "convolutional.py", "manifold.py"}

    def test_of_a_class_of_the_user(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "nets.py").write_text("class Net: ...\n")
        found = workflow.sources("train", "mine.nets:Net")
        assert found == [".latent-atlas/stages.train.md5", "mine/nets.py"]
        package = (tmp_path / found[0]).read_text()
        assert "  training/loop.py" in package
        assert "convolutional.py" not in package

    def test_of_a_class_that_is_not_there(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(ParamsError, match=r"module mine\.nets: there is no mine/nets\.py beside the Snakefile"):
            workflow.sources("train", "mine.nets:Net")
        (tmp_path / "tiny.py").touch()
        with pytest.raises(ParamsError, match=r"tyni\.py .*, did you mean 'tiny\.py'\? put it there, or correct"):
            workflow.sources("train", "tyni:Net")
        with pytest.raises(ParamsError, match=r"module tiny\.py: name it without its ending: tiny$"):
            workflow.sources("train", "tiny.py:Net")

    def test_are_files_written_from_here(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(workflow.PACKAGE)
        found = [Path(path) for path in [*workflow.sources("train"), workflow.packaged("report/templates/report.html")]]
        assert all(path.is_file() and not path.is_absolute() for path in found)

    def test_of_an_installed_package_are_one_file_with_their_checksums(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        names = ("latent_atlas.models.architectures.convolutional:ConvolutionalAutoencoder", "mine:Net")
        monkeypatch.chdir(workflow.PACKAGE)
        listed = workflow.sources("train", names[0])
        monkeypatch.chdir(tmp_path)
        (tmp_path / "mine.py").touch()
        *stand_ins, own = workflow.sources("train", *names)
        assert stand_ins == [".latent-atlas/architectures.convolutional.md5", ".latent-atlas/stages.train.md5"]
        assert own == "mine.py"
        text = "".join((tmp_path / file).read_text() for file in stand_ins)
        assert set(listed) == {line.split("  ")[1] for line in text.splitlines()}
        checked = subprocess.run(["md5sum", "--check", "--quiet", "-"], cwd=workflow.PACKAGE, input=text, text=True)
        assert checked.returncode == 0
        assert workflow.packaged("report/templates/report.html") == ".latent-atlas/report.html.md5"

    def test_of_a_checkout_that_another_environment_runs_are_its_files(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "src" / "latent_atlas").mkdir(parents=True)
        monkeypatch.chdir(tmp_path)
        assert all(Path(path).is_absolute() for path in workflow.sources("train"))


class TestParameters:
    """The values that a rule depends on."""

    def test_chosen_by_dotted_keys(self) -> None:
        values = {"a": {"b": 1, "c": 2}, "d": 3}
        assert workflow.parameters(values, "a.b", "d") == '{"a.b": 1, "d": 3}'

    def test_other_keys_do_not_count(self) -> None:
        values = {"a": {"b": 1}, "d": 3}
        assert workflow.parameters(values, "a.b") == workflow.parameters(values | {"d": 4}, "a.b")
        assert workflow.parameters(values, "a.b") != workflow.parameters({"a": {"b": 2}}, "a.b")

    @pytest.mark.parametrize("key", ["x", "a.x", "a.b.x"])
    def test_absent_key_counts_as_null(self, key: str) -> None:
        assert workflow.parameters({"a": {"b": 1}}, key) == f'{{"{key}": null}}'

    def test_order_does_not_count(self) -> None:
        assert workflow.parameters({"a": {"x": 5e-3, "y": 1}}, "a") == workflow.parameters(
            {"a": {"y": 1, "x": 0.005}}, "a"
        )


class TestPlan:
    """A study of which nothing exists yet."""

    @pytest.fixture(scope="class")
    @classmethod
    def folder(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """The study's folder."""
        return tmp_path_factory.mktemp("plan")

    @pytest.fixture(scope="class")
    @classmethod
    def whole(cls, folder: Path) -> list[Job]:
        """Every job of the study."""
        study = Study(folder)
        return jobs(study.snakemake("--dry-run", "--printshellcmds", "--quiet", "host"))

    def test_every_rule_watches_the_code_that_it_runs(self, whole: list[Job], folder: Path) -> None:
        commands = {job.rule: job.command.split()[1] for job in whole if job.command}
        assert {"fetch", "train", "pca", "reconstruct", "reconstruct_summary", "report"} <= commands.keys()
        blind = set()
        for job in whole:
            if job.rule in commands:
                stage = f"stages/{commands[job.rule].replace('-', '_')}.py"
                assert (ROOT / "src" / "latent_atlas" / stage).is_file()
                (stand_in,) = (path for path in job.inputs if path.startswith(".latent-atlas/stages."))
                if f"  {stage}\n" not in (folder / stand_in).read_text():
                    blind.add(f"{job.rule} runs {stage} without watching it")
        assert blind == set()

    def test_every_manifold_is_reconstructed(self, whole: list[Job]) -> None:
        found = sorted(job.wildcards[0] for job in whole if job.rule == "reconstruct")
        assert found == ["fc2", "fc4", "pca2", "pca2_uncentred"]

    def test_one_checkpoint_needs_the_dataset_and_its_training(self, study: Study) -> None:
        assert planned(study.snakemake("results/checkpoints/fc4.safetensors", "--dry-run")) == {"fetch": 1, "train": 1}

    def test_no_name_of_a_file_reaches_the_shell_unquoted(self, study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
        files = [
            "their weights.pth",
            "$(touch X).pth",
            'it\'s "q".pth',
            "a;b&c|`d`.pth",
            "x*y?.pth",
            "~/#1.pth",
            "~none.pth",
        ]
        monkeypatch.setenv("HOME", str(study.folder / "home"))
        (study.folder / "home").mkdir()
        for number, file in enumerate(files):
            path = study.folder / file.replace("~/", "home/")
            path.touch()
            entry = {"architecture": "fully_connected", "latent_dim": 4, "state_dict": file}
            study.edit(f"models.t{number}", entry)
        targets = [f"results/checkpoints/t{number}.safetensors" for number in range(len(files))]
        done = study.snakemake(*targets, "--dry-run", "--printshellcmds", "--quiet", "host")
        found = {}
        for job in jobs(done):
            words = shlex.split(job.command)
            if job.rule == "import_":
                found[words[words.index("--name") + 1]] = words[words.index("--state-dict") + 1]
                assert job.command.count(shlex.quote(words[words.index("--state-dict") + 1])) == 1
        right = {f"t{n}": file.replace("~/", f"{study.folder}/home/") for n, file in enumerate(files)}
        assert found == right

    def test_a_users_adapter_is_watched(self, study: Study) -> None:
        (study.folder / "mine.py").write_text("")
        entry = {"architecture": "mine:Net", "latent_dim": 2, "adapter": "mine:Adapter"}
        study.edit("models", {"m": entry, "v": entry | {"adapter": "vae"}})
        done = study.snakemake("--dry-run", "--printshellcmds", "--quiet", "host")
        watched = {(job.rule, job.wildcards[0]): job.inputs for job in jobs(done) if job.rule in ("train", "jacobian")}
        for rule in ("train", "jacobian"):
            assert "mine.py" in watched[rule, "m"]
            assert ".latent-atlas/adapters.vae.md5" in watched[rule, "v"]

    def test_imported_model_is_not_trained(self, study: Study) -> None:
        (study.folder / "weights.pth").touch()
        study.edit("models.fc4", {"architecture": "fully_connected", "latent_dim": 4, "state_dict": "weights.pth"})
        done = study.snakemake("results/checkpoints/fc4.safetensors", "--dry-run")
        assert planned(done) == {"fetch": 1, "import_": 1}


class TestRefusals:
    """What stops before any job."""

    @pytest.mark.parametrize(
        ("key", "value", "says"),
        [
            ("training.epochs", 0, "training.epochs: 0 is not allowed: input should be greater than 0"),
            ("models.fc4.architecture", "nowhere:Class", "there is no nowhere.py beside the Snakefile"),
        ],
    )
    def test_wrong_parameter(self, study: Study, key: str, value: Any, says: str) -> None:
        study.edit(key, value)
        done = study.snakemake()
        assert done.returncode == 1
        assert says in done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr
        assert not (study.folder / "data").exists()
        assert not (study.folder / "logs").exists()

    def test_values_from_the_command_line(self, study: Study) -> None:
        done = study.snakemake("--config", "epochs=3")
        assert done.returncode == 1
        assert "--config and --configfile are not read here (epochs): edit params.yaml" in done.stdout + done.stderr
        assert not (study.folder / "data").exists()


class TestRun:
    """A whole run from an empty folder, and what is left to do after it."""

    def test_ends_with_the_report_and_every_result(self, finished: Study) -> None:
        results = finished.folder / "results"
        assert (results / "report" / "index.html").stat().st_size > 10_000
        assert sorted(path.stem for path in (results / "checkpoints").iterdir()) == [
            "fc2",
            "fc4",
            "pca2",
            "pca2_uncentred",
        ]
        assert list(pd.read_csv(results / "reconstruct" / "summary.csv")["manifold"].unique()) == manifolds(
            finished.params
        )
        assert not list(finished.folder.rglob("*.part*"))
        assert not list(finished.folder.rglob("*.resume"))

    def test_every_job_has_its_log_and_no_error_in_it(self, finished: Study) -> None:
        logs = list((finished.folder / "logs").rglob("*.log"))
        assert {"fetch.log", "fc2.log", "pca.log", "report.log"} <= {path.name for path in logs}
        for path in logs:
            assert "ERROR" not in path.read_text()

    def test_leaves_nothing_to_do_however_the_parameters_are_written(self, finished: Study) -> None:
        path = finished.folder / "params.yaml"
        text = path.read_text()
        assert planned(finished.snakemake("--dry-run")) == {}
        try:
            finished.values = dict(reversed(finished.values.items()))
            finished.write()
            path.write_text(
                "# rewritten\n" + path.read_text().replace("peak_learning_rate: 0.005", "peak_learning_rate: 5.0e-3")
            )
            (finished.folder / "data" / "images.safetensors").touch()
            assert planned(finished.snakemake("--dry-run")) == {}
        finally:
            path.write_text(text)

    def test_edit_of_one_model_concerns_that_model_and_what_joins_them(self, finished: Study) -> None:
        with finished.edited("models.fc4.latent_dim", 3):
            done = finished.snakemake("--dry-run", "--printshellcmds", "--quiet", "host")
        counts = planned(done)
        assert counts["train"] == counts["reconstruct"] == counts["reconstruct_summary"] == counts["report"] == 1
        assert not {"fetch", "pca"} & counts.keys()
        assert {wildcard for job in jobs(done) for wildcard in job.wildcards} == {"fc4"}
        assert {job.rule for job in jobs(done)} == {*counts, "all"}

    @pytest.mark.parametrize("key", ["seeds", "models.fc4.seeds"])
    def test_more_seeds_leave_the_first_as_it_is(self, finished: Study, key: str) -> None:
        with finished.edited(key, 2):
            done = finished.snakemake("--dry-run", "--printshellcmds", "--quiet", "host")
        first = {"seeds": ["fc2", "fc4"], "models.fc4.seeds": ["fc4"]}[key]
        again = ["fc4"] if key.startswith("models") else []  # its entry has changed
        trainings = [job for job in jobs(done) if job.rule == "train"]
        assert sorted(job.wildcards[0] for job in trainings) == sorted([*again, *(f"{name}_seed1" for name in first)])
        assert all(f"--seed {1 if '_seed1' in job.wildcards[0] else 0} " in job.command for job in trainings)

    def test_edit_of_the_grids_does_not_train_again(self, finished: Study) -> None:
        with finished.edited("reconstruct.shown", 4):
            counts = planned(finished.snakemake("--dry-run"))
        assert counts == {"reconstruct": 4, "reconstruct_summary": 1, "known_answers": 1, "report": 1}
        assert SMALL["reconstruct"]["shown"] == 9


class TestStorage:
    """Paths of outputs, also where Snakemake has put them into object storage."""

    def test_a_file_of_this_folder_is_itself(self) -> None:
        assert workflow.without_storage("results/{model}.csv", None) == "results/{model}.csv"

    def test_a_stored_one_is_what_the_rule_says(self) -> None:
        file = AnnotatedString("local/copy")
        file.flags["storage_object"] = SimpleNamespace(query="s3://bucket/study/results/{model}.csv")
        assert workflow.without_storage(file, "s3://bucket/study") == "results/{model}.csv"
