"""Data and studies that the tests share."""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from pathlib import Path

import pytest
import torch
import warm
from fuzzing import figures
from support import ROOT, Study, made_once, options

import latent_atlas.cli  # noqa: F401  (one thread each, as the stages run: said before numpy and torch are loaded)
from latent_atlas.data import sources as datasets
from latent_atlas.data.images import Images
from latent_atlas.errors import DataError
from latent_atlas.geometry.pca import PrincipalComponents, fit


def pytest_configure(config: pytest.Config) -> None:
    """Leave out what torch has to say to itself; processes that share the tests use one server for their commands."""
    config.addinivalue_line("filterwarnings", "ignore:`torch.jit.script` is deprecated:DeprecationWarning")
    if getattr(config.option, "numprocesses", None):
        warm.share()


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Each test draws the same random numbers whenever and after whatever it runs."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Images:
    """The handwritten digits of scikit-learn: 1,797 images of 8 x 8 pixels."""
    return datasets.get("digits", "grey", None, tmp_path_factory.mktemp("scratch"))


@pytest.fixture(scope="session")
def digits_file(digits: Images, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits as fetch writes them."""
    path = tmp_path_factory.mktemp("digits") / "images.safetensors"
    digits.save(path)
    return path


@pytest.fixture(scope="session")
def fashion_mnist(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Images:
    """All of FashionMNIST: the project's own copy, else one that the tests fetch once and keep."""
    kept = pytestconfig.cache.mkdir("fashion_mnist") / "images.safetensors"
    for path in (ROOT / "data" / "images.safetensors", kept):
        if path.exists():
            try:
                images = Images.load(path)
            except DataError:
                continue
            if images.name == "FashionMNIST" and (len(images.train), len(images.test)) == (60_000, 10_000):
                return images
    images = datasets.get("FashionMNIST", "grey", None, tmp_path_factory.mktemp("scratch"), print)
    images.save(kept)
    return images


@pytest.fixture(scope="session")
def principal(fashion_mnist: Images) -> PrincipalComponents:
    """The principal components of all training images of FashionMNIST."""
    return fit(fashion_mnist.train)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """A small study of the digits in an empty folder."""
    return Study(tmp_path)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, digits_file: Path) -> Study:
    """A small study with all its manifolds in ``checkpoints``, for single stages to measure."""
    study = Study(tmp_path_factory.mktemp("trained"))
    study.edit("examples", {"pullover": "train/5", "sneaker": "train/6"})
    done = [study.run(*study.pca_arguments(digits_file, "checkpoints"))]
    for model in study.params.models:
        files = {
            "checkpoint": f"checkpoints/{model}.safetensors",
            "curve": f"results/train/{model}/curve.csv",
            "snapshots": f"results/train/{model}/snapshots.safetensors",
        }
        done.append(study.run(*options("train", name=model, images=digits_file, **files)))
    assert all(result.exit_code == 0 for result in done), [result.output for result in done]
    return study


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A small study that the whole workflow has run through, from nothing to the report.

    It is made once for all processes that share the tests; each has a copy, times and all.
    """

    def make(folder: Path) -> None:
        folder.mkdir()
        done = Study(folder).snakemake()
        assert done.returncode == 0, done.stdout + done.stderr

    folder = tmp_path_factory.mktemp("copied") / "finished"
    return Study(shutil.copytree(made_once(tmp_path_factory, "finished", make), folder))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A line of figures for each kind of bad input, and of faults."""
    reports = [
        each for found in terminalreporter.stats.values() for each in found if getattr(each, "when", "") == "call"
    ]
    if bad := figures(reports):
        terminalreporter.section("bad input")
        terminalreporter.write("\n".join(bad) + "\n")
    lines: dict[str, Counter[str]] = defaultdict(Counter)
    failed = {report.nodeid for report in terminalreporter.stats.get("failed", [])}
    for report in reports:
        for name, value in report.user_properties:
            if name == "fault matrix":
                lines[value[0]].update(value[1])
                lines[value[0]]["failures"] += report.nodeid in failed
    if lines:
        terminalreporter.section("fault matrix")
        for kind, counted in sorted(lines.items()):
            failures = counted.pop("failures")
            outcomes = ", ".join(f"{number:,} {name.replace('_', ' ')}" for name, number in counted.items() if number)
            terminalreporter.line(f"{kind}: {outcomes}; failures {failures}")
