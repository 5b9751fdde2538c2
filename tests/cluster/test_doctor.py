"""What the doctor finds at a site."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from support import Study

from latent_atlas.cluster import doctor
from latent_atlas.data.images import Images


@pytest.fixture(autouse=True)
def _here(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the folder of a study of the digits."""
    monkeypatch.chdir(study.folder)
    Path("data").mkdir()


def verdicts(study: Study) -> list[str]:
    """The lines on the dataset."""
    return [str(finding) for finding in doctor.dataset(study.params)]


def test_images_of_the_dataset(study: Study, digits: Images) -> None:
    digits.save(Path("data/images.safetensors"))
    assert verdicts(study) == ["     ok  dataset: data/images.safetensors holds digits"]


def test_any_other_file(study: Study, digits: Images) -> None:
    path = Path("data/images.safetensors")
    path.write_text("<html>")
    assert "is not a readable safetensors file" in verdicts(study)[0]
    save_file({"train": torch.zeros(2)}, path)
    assert "has no checksum" in verdicts(study)[0]


def test_images_of_another_dataset(study: Study, digits: Images) -> None:
    digits.save(Path("data/images.safetensors"))
    study.edit("dataset.name", "MNIST")
    (line,) = verdicts(study)
    assert "PROBLEM" in line
    assert "holds digits, but params.yaml names MNIST" in line


def test_changed_pixel(study: Study, digits: Images) -> None:
    path = Path("data/images.safetensors")
    digits.save(path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert "is damaged" in verdicts(study)[0]


def test_the_job_on_a_node_prints_what_torch_finds(study: Study) -> None:
    found = json.loads(study.run("doctor", "--test-job").stdout)
    assert found["torch"] == torch.__version__
    assert found["cuda"] == torch.version.cuda
    assert bool(found["gpus"]) == torch.cuda.is_available()


def test_profile_that_does_not_exist(study: Study) -> None:
    Path("Snakefile").touch()
    done = study.run("doctor", "--profile", "absent")
    assert done.exit_code == 1
    assert "cannot read absent/config.yaml" in done.output


def test_images_of_ones_own(study: Study) -> None:
    Path("photos").mkdir()
    study.edit("dataset", {"images": "photos", "size": 8})
    assert "PROBLEM  dataset: dataset.images: there are no images at photos" in verdicts(study)[0]
    for number in range(3):
        Path("photos", f"{number}.png").touch()
    study.edit("sample.size", 1)
    study.edit("geodesics.pairs", None)
    study.edit("dataset.test_share", 0.4)
    study.edit("examples", {"pullover": "train/0", "sneaker": "train/1"})
    assert verdicts(study) == ["     ok  dataset: photos is here: 3 files"]


def test_arrays_functions_and_classes_of_torchvision(study: Study) -> None:
    study.edit("dataset", {"arrays": "data.npz"})
    assert "there is no data.npz" in verdicts(study)[0]
    Path("data.npz").touch()
    assert verdicts(study) == ["     ok  dataset: data.npz is here"]
    study.edit("dataset", {"function": "absent_module:load"})
    assert "there is no absent_module.py beside the Snakefile" in verdicts(study)[0]
    study.edit("dataset", {"name": "CIFAR100"})
    assert "note  dataset: torchvision will get CIFAR100" in verdicts(study)[0]


def test_figures_are_drawn_here(study: Study) -> None:
    study.edit("dataset", {"name": "shapes"})
    assert verdicts(study) == ["     ok  dataset: shapes are drawn here"]
