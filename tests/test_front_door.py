"""What ``import latent_atlas`` offers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import distribution, distributions, version
from pathlib import Path
from threading import Thread

import pytest
import torch
from packaging.requirements import Requirement

import latent_atlas
from latent_atlas.errors import CheckpointError
from latent_atlas.geometry.manifold import PrincipalSubspace

ROOT = Path(__file__).parents[1]


def test_import_loads_no_other_package() -> None:
    script = (
        "import sys; before = set(sys.modules); import latent_atlas; "
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}; "
        "print(*sorted(new - sys.stdlib_module_names))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["latent_atlas"]


@pytest.mark.parametrize("name", latent_atlas.__all__)
def test_each_name_is_there(name: str) -> None:
    assert getattr(latent_atlas, name).__module__.startswith("latent_atlas.")
    assert name in dir(latent_atlas)


def test_version_is_the_package_s() -> None:
    assert latent_atlas.__version__ == version("latent-atlas")


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        latent_atlas.nothing  # noqa: B018


class TestLoad:
    """A manifold from a file or a URL."""

    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        """PCA of 2 dimensions on images of 4 pixels."""
        PrincipalSubspace(torch.eye(2, 4), torch.zeros(4), (1, 2, 2)).save(tmp_path / "pca2.safetensors")
        return tmp_path / "pca2.safetensors"

    def test_path_and_url_give_the_same(self, file: Path) -> None:
        handler = partial(SimpleHTTPRequestHandler, directory=file.parent)
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            Thread(target=server.serve_forever, daemon=True).start()
            address = f"http://127.0.0.1:{server.server_port}"
            for source in (file, str(file), file.as_uri(), f"{address}/{file.name}"):
                surface = latent_atlas.load(source)
                assert isinstance(surface, PrincipalSubspace)
                assert torch.equal(surface.components, torch.eye(2, 4))
            with pytest.raises(CheckpointError, match=r"other.safetensors cannot be downloaded \(HTTP Error 404"):
                latent_atlas.load(f"{address}/other.safetensors")
            server.shutdown()

    def test_url_of_something_else(self, tmp_path: Path) -> None:
        (tmp_path / "page.html").write_text("<html>")
        address = (tmp_path / "page.html").as_uri()
        with pytest.raises(CheckpointError, match=address):
            latent_atlas.load(address)

    def test_url_of_too_large_a_file(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("latent_atlas.loading.LARGEST", 10)
        with pytest.raises(CheckpointError, match="has more than 10 bytes"):
            latent_atlas.load(file.as_uri())


USE = """
import importlib.util
import torch, latent_atlas
from latent_atlas.errors import CheckpointError
from latent_atlas.imports import ARCHITECTURES
from latent_atlas.models.registry import architecture_class
for name in ("snakemake", "dvc", "click", "pydantic", "torchvision", "sklearn"):
    assert importlib.util.find_spec(name) is None, name
assert len(ARCHITECTURES.known()) >= 2 and all(map(architecture_class, ARCHITECTURES.known()))
try:
    latent_atlas.load("conv16", repository=".")
except CheckpointError as error:
    assert "pip install 'latent-atlas[workflow]'" in str(error)
else:
    raise AssertionError("read without DVC")
surface = latent_atlas.load("pca2.safetensors")
table = latent_atlas.angles(surface, torch.rand(3, 1, 6, 6, generator=torch.Generator().manual_seed(0)))
first = table[table["image"] == 0].assign(manifold="pca2", example="first")
latent_atlas.plot_angles(first).figure.savefig("angles.png")
spectra = latent_atlas.spectra(surface, torch.rand(3, 6, 6))
try:
    import latent_atlas.cli
except SystemExit as stop:
    assert "pip install 'latent-atlas[workflow]'" in str(stop)
else:
    raise AssertionError("a command line without click")
print(latent_atlas.__file__, latent_atlas.__version__, len(table), len(spectra))
"""


def test_wheel_works_with_the_base_dependencies_only(tmp_path: Path) -> None:
    source, site = tmp_path / "source", tmp_path / "site"
    source.mkdir()
    for name in ("pyproject.toml", "setup.py", "Snakefile", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("src", "workflow", "profiles"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path)]
    subprocess.run(build, cwd=source, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    assert (site / "latent_atlas" / "py.typed").exists()
    assert any((site / "latent_atlas" / "report" / "templates").iterdir())
    (found,) = distributions(name="latent-atlas", path=[str(site)])
    for package in closure(found.requires or []):
        tops = {file.parts[0] for file in distribution(package).files or []} - {"..", "__pycache__"}
        for top in tops:
            if not (site / top).exists():
                (site / top).symlink_to(str(distribution(package).locate_file(top)))
    PrincipalSubspace(torch.eye(2, 36), torch.zeros(36), (1, 6, 6)).save(tmp_path / "pca2.safetensors")
    # without site-packages (-S): nothing is there but the standard library and this folder
    done = subprocess.run(
        [sys.executable, "-S", "-c", USE],
        cwd=tmp_path,
        env={"PYTHONPATH": str(site), "PATH": os.environ["PATH"], "MPLBACKEND": "agg", "MPLCONFIGDIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(site / "latent_atlas" / "__init__.py"), version("latent-atlas"), "24", "3"]
    assert (tmp_path / "angles.png").stat().st_size > 3000


def closure(requirements: list[str]) -> set[str]:
    """Names of the distributions that these requirements need here, without extras."""
    found: set[str] = set()
    waiting = list(requirements)
    while waiting:
        one = Requirement(waiting.pop())
        if one.name not in found and (one.marker is None or one.marker.evaluate({"extra": ""})):
            found.add(one.name)
            waiting += distribution(one.name).requires or []
    return found
