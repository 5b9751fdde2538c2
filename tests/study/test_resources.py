"""What stages ask of a cluster, from what their jobs took."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from latent_atlas.cluster.measured import measure
from latent_atlas.cluster.records import ENDING
from latent_atlas.errors import ParamsError
from latent_atlas.files import sealed
from latent_atlas.study import schema as config
from latent_atlas.study.manifolds import manifolds
from latent_atlas.study.models import training_of
from latent_atlas.study.resources import MEASURED, Requests, read, size

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def params() -> config.Params:
    return config.load(PROJECT / "params.yaml")


def epochs(params: config.Params, model: str) -> int:
    return training_of(params, model).epochs or 0


def test_training_grows_with_epochs_and_attempts(params: config.Params) -> None:
    minutes = Requests({"train": {"seconds": 60, "memory_mb": 601}}, params)("train")["runtime"]
    assert minutes(["fc16"], attempt=1) == 4 * epochs(params, "fc16") == 4 * 8
    assert minutes(["conv16"], attempt=1) == 4 * epochs(params, "conv16") == 4 * 3
    assert minutes(["conv16"], attempt=3) == 3 * minutes(["conv16"], attempt=1)


def test_training_of_few_images_has_the_least_number_of_steps(params: config.Params) -> None:
    update: dict[str, object] = {"dataset": params.dataset.model_copy(update={"limit": 512})}
    for length, passes in (({"min_steps": 500}, 250), ({"epochs": None, "steps": 501}, 250.5), ({"min_steps": 1}, 8)):
        few = params.model_copy(update=update | {"training": params.training.model_copy(update=length)})
        assert size("train", "fc16", few) == passes * 512 / 60_000
        assert size("invariance_epochs", "fc16", few) == {250: 250 / 3, 250.5: 251 / 3, 8: 8}[passes]


def test_training_shrinks_with_the_number_of_images(params: config.Params) -> None:
    training = params.training.model_copy(update={"min_steps": 1})
    few = params.model_copy(update={"dataset": params.dataset.model_copy(update={"limit": 6000}), "training": training})
    whole, tenth = (
        Requests({"train": {"seconds": 600, "memory_mb": 1}}, study)("train")["runtime"](["fc16"], attempt=1)
        for study in (params, few)
    )
    assert tenth == whole / 10


def test_memory_grows_with_attempts(params: config.Params) -> None:
    megabytes = Requests({"pca": {"seconds": 1, "memory_mb": 601}}, params)("pca")["mem_mb"]
    assert [megabytes([], attempt=attempt) for attempt in (1, 2)] == [1500, 3000]


def test_comparisons_grow_with_manifolds_and_nothing_is_too_short(params: config.Params) -> None:
    requests = Requests({rule: {"seconds": 10, "memory_mb": 1} for rule in ("jacobian_summary", "jacobian")}, params)
    assert requests("jacobian_summary")["runtime"]([], attempt=1) == -(-4 * 10 * len(manifolds(params)) // 60)
    assert requests("jacobian")["runtime"](["fc16"], attempt=1) == 2


def test_every_rule_asks_for_memory_and_time() -> None:
    for path in (PROJECT / "workflow" / "rules").glob("*.smk"):
        for rule in re.split(r"^ *rule ", path.read_text(), flags=re.MULTILINE)[1:]:
            assert f'**requests("{rule.partition(":")[0]}")' in rule


def test_every_rule_has_a_measurement(params: config.Params) -> None:
    rules = {
        line.split()[1].rstrip(":")
        for path in (PROJECT / "workflow" / "rules").glob("*.smk")
        for line in path.read_text().splitlines()
        if line.lstrip().startswith("rule ")
    }
    assert rules == set(read(PROJECT / MEASURED))


@pytest.mark.parametrize("text", ["train: {seconds: 1}", "train: many", "- train"])
def test_measurements_that_cannot_be_read(text: str, tmp_path: Path) -> None:
    (tmp_path / "resources.yaml").write_text(text)
    with pytest.raises(ParamsError, match=r"resources.yaml must hold seconds and memory_mb for each stage"):
        read(tmp_path / "resources.yaml")


def test_a_stage_that_was_never_measured_gets_a_default(params: config.Params) -> None:
    resources = Requests({}, params)("dream")
    assert resources["runtime"]([], attempt=1) == 4 * 5
    assert resources["mem_mb"]([], attempt=2) == 2 * 2000


def test_measured_from_the_records_of_jobs(params: config.Params, tmp_path: Path) -> None:
    took = {"node": "here", "device": "cpu", "started_utc": "2026-01-01T00:00:00", "cpu_s": 1}
    for job, seconds, memory in (("train/conv16", 90, 700), ("train/fc16", 50, 812), ("report", 3, 5)):
        path = tmp_path / f"{job}{ENDING}"
        path.parent.mkdir(exist_ok=True)
        path.write_text(sealed(took | {"wall_s": seconds, "peak_memory_mib": memory}))
    found = measure(tmp_path, params)
    assert found["train"] == {"seconds": max(90 / epochs(params, "conv16"), 10), "memory_mb": 812}
    assert found["report"] == {"seconds": pytest.approx(3 / len(manifolds(params)), abs=0.05), "memory_mb": 5}
