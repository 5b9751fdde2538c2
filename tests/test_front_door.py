"""What ``import latent_atlas`` offers."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

import latent_atlas


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
