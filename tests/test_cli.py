"""The command line: what it lists, how quickly it answers, and how it fails."""

from __future__ import annotations

import itertools
import os
import shlex
import sys
from importlib.metadata import version

import pytest
from ruamel.yaml import YAML
from support import COMMAND, ROOT, Study, process, quoted, sealed

from latent_atlas.cli import TOOLS, stages
from latent_atlas.signatures import example

OF_OTHER_STUDIES = {"factors", "factors-summary", "import"}


def test_help_lists_all_stages(study: Study) -> None:
    done = study.process("--help")
    assert done.returncode == 0
    rows = [line.split() for line in done.stdout.partition("Stages")[2].splitlines()]
    listed = [words[0] for words in rows if words and words[0] in stages()]
    assert listed == list(stages())
    assert {"fetch", "train", "import", "pca", "reconstruct", "report"} <= set(listed)


@pytest.mark.parametrize("name", [*stages(), *TOOLS])
def test_every_command_explains_itself(study: Study, name: str) -> None:
    done = study.run(name, "--help")
    assert done.exit_code == 0
    assert f"{name} [OPTIONS]" in done.stdout
    assert f"latent-atlas {name}" in done.stdout.partition("Example:")[2]
    rows = [line.split(None, 2) for line in done.stdout.partition("Options:")[2].splitlines() if line[2:4] == "--"]
    assert all(len(row) > 1 for row in rows)
    if name in stages():
        assert {"--params", "--log"} < {row[0] for row in rows}


@pytest.fixture(scope="module")
def calls() -> list[set[tuple[str, ...]]]:
    """The commands of the default study: pairs of neighbouring words of each."""
    stages = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    return [set(itertools.pairwise(shlex.split(stage["cmd"]))) for stage in stages.values()]


@pytest.mark.parametrize("name", sorted(stages().keys() - OF_OTHER_STUDIES))
def test_example_is_a_call_of_the_default_study(name: str, calls: list[set[tuple[str, ...]]]) -> None:
    words = shlex.split(example(stages()[name]))
    options = zip(words[2::2], words[3::2], strict=True)
    assert any(tuple(words[:2]) in call and call >= set(options) for call in calls), words


@pytest.mark.parametrize("name", [*stages(), *TOOLS])
def test_help_loads_no_heavy_library(name: str) -> None:
    script = "import sys; from latent_atlas.cli import main; main([sys.argv[1], '--help'], standalone_mode=False)"
    heavy = {"torch", "numpy", "pandas", "scipy", "matplotlib", "snakemake", "dvc", "pydantic"}
    done = process([sys.executable, "-c", f"{script}; print(*{heavy} & sys.modules.keys())", name], ROOT)
    assert done.stdout.splitlines()[-1] == "", done.stdout


def test_version(study: Study) -> None:
    assert study.run("--version").stdout == f"latent-atlas, version {version('latent-atlas')}\n"


def test_unknown_stage(study: Study) -> None:
    done = study.run("trian")
    assert done.exit_code == 2
    assert "No such command 'trian', did you mean 'train'?" in done.stderr


def test_loads_no_heavy_library_before_a_stage_is_called(study: Study) -> None:
    script = "import sys, latent_atlas.cli; print(sorted({'torch', 'numpy', 'pandas', 'sklearn'} & sys.modules.keys()))"
    assert process([sys.executable, "-c", script], study.folder).stdout == "[]\n"


def test_one_thread_each_unless_told_otherwise(study: Study) -> None:
    script = "import os, latent_atlas.cli; print(os.environ['OMP_NUM_THREADS'], os.environ['MKL_NUM_THREADS'])"
    done = process(["env", "-u", "OMP_NUM_THREADS", "MKL_NUM_THREADS=3", sys.executable, "-c", script], study.folder)
    assert done.stdout == "1 3\n"


def test_terminal_inside_a_notebook(study: Study) -> None:
    inline = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}  # of a package that is not there
    script = "import latent_atlas.cli, matplotlib.pyplot; print(matplotlib.get_backend())"
    done = process([sys.executable, "-c", script], study.folder, **inline)
    assert done.stdout == "agg\n", done.stderr


class TestErrors:
    """A failure that a person can act upon is one line; it is in the log as well."""

    def test_one_line_status_1_and_the_log(self, study: Study) -> None:
        done = study.process("train", "--name", "fc2", "--images", "absent.safetensors", "--checkpoint", "a",
                             "--curve", "b", "--snapshots", "c", "--log", "logs/deep/train.log")  # fmt: skip
        assert done.returncode == 1
        assert done.stdout == ""
        (line,) = [line for line in done.stderr.splitlines() if "error" in line]
        assert line.startswith("[train fc2] error: absent.safetensors is not a readable safetensors file")
        assert "delete it and run the workflow again" in line
        assert "Traceback" not in done.stderr
        log = (study.folder / "logs" / "deep" / "train.log").read_text()
        assert f"ERROR {line.partition('] ')[2]}" in log

    def test_parameter_file_that_is_not_there(self, study: Study) -> None:
        (study.folder / "params.yaml").unlink()
        done = study.run("fetch", "--images", "x")
        assert done.exit_code == 1
        assert (
            done.stderr
            == "[fetch] error: there is no params.yaml here: run in the project's folder, or name the file\n"
        )

    def test_wrong_parameter(self, study: Study) -> None:
        study.edit("training.epochs", 0)
        done = study.run("fetch", "--images", "x", "--log", "fetch.log")
        assert done.exit_code == 1
        assert "training.epochs: 0 is not allowed" in done.stderr
        assert "training.epochs: 0 is not allowed" in (study.folder / "fetch.log").read_text()

    def test_unexpected_error_is_told_apart_and_keeps_its_traceback(
        self, study: Study, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("latent_atlas.data.sources.obtain", lambda *arguments: 1 / 0)
        done = study.run("fetch", "--images", "images.safetensors", "--log", "fetch.log")
        assert done.exit_code == 70
        assert "unexpected error" in done.stderr
        assert "ZeroDivisionError" in (study.folder / "fetch.log").read_text()

    def test_parameter_file_that_is_no_text(self, study: Study) -> None:
        (study.folder / "params.yaml").write_bytes(b"\xff\xfe not UTF-8 \xff")
        done = study.run("fetch", "--images", "x")
        assert done.exit_code == 1
        assert "params.yaml cannot be read as a text file" in done.stderr

    def test_other_parameter_file(self, study: Study) -> None:
        (study.folder / "params.yaml").rename(study.folder / "other.yaml")
        done = study.run("fetch", "--params", "other.yaml", "--images", "images.safetensors")
        assert done.exit_code == 0, done.output
        assert (study.folder / "images.safetensors").exists()


class TestDisk:
    """A disk that is full or cannot be written to, for real: mounted where nothing else sees it."""

    FETCH = quoted(COMMAND, "fetch", "--images", "disk/data/images.safetensors", "--log", "disk/logs/fetch.log")

    def test_full_of_other_things(self, study: Study) -> None:
        (study.folder / "disk").mkdir()
        done = sealed(
            "mount -t tmpfs -o size=64k tmpfs disk; mkdir -p disk/logs\n"
            "head -c 1000000 /dev/zero > disk/full 2> /dev/null || true\n"
            f"status=0; {self.FETCH} || status=$?; find disk -type f; exit $status",
            study.folder,
            "--mount",
        )
        assert done.returncode == 1
        assert "Traceback" not in done.stderr  # although the log does not fit either
        (line,) = [line for line in done.stderr.splitlines() if "error" in line]
        assert "cannot write disk/data/images.safetensors: No space left on device" in line
        assert "free space or change the permissions of disk/data, then run the same command again" in line
        assert sorted(done.stdout.split()) == ["disk/full", "disk/logs/fetch.log"]

    def test_filled_by_the_file_itself(self, study: Study) -> None:
        (study.folder / "disk").mkdir()
        done = sealed(
            "mount -t tmpfs -o size=64k tmpfs disk; mkdir disk/data; echo old > disk/data/images.safetensors\n"
            f"status=0; {self.FETCH} || status=$?\n"
            "find disk/data -type f; cat disk/data/images.safetensors; exit $status",
            study.folder,
            "--mount",
        )
        assert done.returncode == 1
        assert "cannot write disk/data/images.safetensors: No space left on device" in done.stderr
        assert done.stdout.splitlines() == ["disk/data/images.safetensors", "old"]

    def test_named_pipe_in_place_of_the_log(self, study: Study) -> None:
        """Nobody reads it: opening it would wait forever. It is refused before any work."""
        os.mkfifo(study.folder / "fetch.log")
        done = study.process("fetch", "--images", "images.safetensors", "--log", "fetch.log")
        assert done.returncode == 2
        assert "Invalid value for '--log': 'fetch.log' is a named pipe: name a file" in done.stderr

    def test_read_only(self, study: Study) -> None:
        (study.folder / "disk").mkdir()
        done = sealed(
            "mount -t tmpfs tmpfs disk; mount -o remount,bind,ro disk\n" + self.FETCH, study.folder, "--mount"
        )
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert "cannot write the log disk/logs/fetch.log: Read-only file system; going on without" in done.stderr
        assert "error: cannot write disk/data/images.safetensors: Read-only file system" in done.stderr
        assert "change the permissions of disk/data" in done.stderr
