"""What ``import latent_atlas`` offers."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from threading import Thread

import pytest
import torch

import latent_atlas
from latent_atlas.errors import CheckpointError
from latent_atlas.geometry.manifold import PrincipalSubspace


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
