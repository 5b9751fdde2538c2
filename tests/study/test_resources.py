"""What rules ask of a cluster, from what their jobs took."""

from __future__ import annotations

from pathlib import Path

import pytest

from latent_atlas.cluster.measured import measure
from latent_atlas.errors import ParamsError
from latent_atlas.study import schema as config
from latent_atlas.study.resources import MEASURED, Requests, read

PROJECT = Path(__file__).resolve().parents[2]
HEAD = "s\th:m:s\tmax_rss\tmax_vms\n"


@pytest.fixture(scope="module")
def params() -> config.Params:
    return config.load(PROJECT / "params.yaml")


def test_training_grows_with_epochs_and_attempts(params: config.Params) -> None:
    minutes = Requests({"train": {"seconds": 60, "memory_mb": 601}}, params).runtime("train")
    assert minutes(["fc16"], attempt=1) == 4 * params.training_of("fc16").epochs
    assert minutes(["conv16"], attempt=1) == 4 * params.training_of("conv16").epochs
    assert minutes(["conv16"], attempt=3) == 3 * minutes(["conv16"], attempt=1)


def test_training_shrinks_with_the_number_of_images(params: config.Params) -> None:
    few = params.model_copy(update={"dataset": params.dataset.model_copy(update={"limit": 6000})})
    whole, tenth = (
        Requests({"train": {"seconds": 600, "memory_mb": 1}}, study).runtime("train")(["fc16"], attempt=1)
        for study in (params, few)
    )
    assert tenth == whole / 10


def test_memory_grows_with_attempts(params: config.Params) -> None:
    megabytes = Requests({"pca": {"seconds": 1, "memory_mb": 601}}, params).mem_mb("pca")
    assert [megabytes([], attempt=attempt) for attempt in (1, 2)] == [1500, 3000]


def test_comparisons_grow_with_manifolds_and_nothing_is_too_short(params: config.Params) -> None:
    requests = Requests({rule: {"seconds": 10, "memory_mb": 1} for rule in ("jacobian_summary", "jacobian")}, params)
    assert requests.runtime("jacobian_summary")([], attempt=1) == -(-4 * 10 * len(params.manifolds) // 60)
    assert requests.runtime("jacobian")(["fc16"], attempt=1) == 2


def test_every_rule_has_a_measurement(params: config.Params) -> None:
    rules = {
        line.split()[1].rstrip(":")
        for path in (PROJECT / "workflow" / "rules").glob("*.smk")
        for line in path.read_text().splitlines()
        if line.startswith("rule ")
    }
    assert rules == set(read(PROJECT / MEASURED))


@pytest.mark.parametrize("text", ["train: {seconds: 1}", "train: many", "- train"])
def test_measurements_that_cannot_be_read(text: str, tmp_path: Path) -> None:
    (tmp_path / "resources.yaml").write_text(text)
    with pytest.raises(ParamsError, match=r"resources.yaml must hold seconds and memory_mb for each rule"):
        read(tmp_path / "resources.yaml")


def test_a_rule_that_was_never_measured(params: config.Params) -> None:
    with pytest.raises(ParamsError, match="has no rule 'dream': add the seconds and memory_mb"):
        Requests({}, params).mem_mb("dream")([], attempt=1)


def test_measured_from_benchmark_files(params: config.Params, tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "conv16.benchmark.tsv").write_text(HEAD + "90\t0:01:30\t700\t1\n")
    (tmp_path / "train" / "fc16.benchmark.tsv").write_text(HEAD + "50\t0:00:50\t811.6\t1\n")
    (tmp_path / "report.benchmark.tsv").write_text(HEAD + "3\t0:00:03\tNA\t1\n")
    found = measure(tmp_path, params)
    assert found["train"] == {"seconds": max(90 / params.training_of("conv16").epochs, 10), "memory_mb": 812}
    assert found["report"] == {"seconds": pytest.approx(3 / len(params.manifolds), abs=0.05), "memory_mb": 0}
