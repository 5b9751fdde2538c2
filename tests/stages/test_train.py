"""train: the same bytes for the same seed, also after an interruption, and an error that really falls."""

from __future__ import annotations

import contextlib
import importlib
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from support import Study, same_state
from torch import Tensor, nn

from latent_atlas.data.images import Images
from latent_atlas.errors import CheckpointError, TrainingError
from latent_atlas.files import read_safetensors, write_safetensors
from latent_atlas.geometry.manifold import load_manifold
from latent_atlas.models.checkpoints import Checkpoint
from latent_atlas.models.registry import build
from latent_atlas.training.loop import Progress, Schedule, mean_error, train
from latent_atlas.training.schedule import BETA1_HIGH, BETA1_LOW, BETA2, one_cycle
from latent_atlas.training.state import State, remove, source_files

CPU = torch.device("cpu")
SCHEDULE = Schedule(epochs=3, batch_size=128, peak_learning_rate=0.005, precision="float32", seed=0)
OPTIONS: dict[str, dict[str, Any]] = {"fully_connected": {}, "convolutional": {"kernel": 3}}
Trained = tuple[nn.Module, pd.DataFrame]


def trained(
    images: Images,
    schedule: Schedule = SCHEDULE,
    architecture: str = "fully_connected",
    report: Callable[[Progress], None] = lambda progress: None,
    resume: Path | None = None,
) -> Trained:
    """A network with two latent coordinates, trained on small images."""

    def fresh() -> nn.Module:
        return build(architecture, images.shape, 2, OPTIONS[architecture])

    model, curve, *_ = train(fresh, images, schedule, CPU, report, resume)
    return model, curve


@pytest.fixture(scope="module")
def straight(digits: Images) -> dict[str, Trained]:
    """One training of each architecture that nothing interrupts."""
    return {architecture: trained(digits, architecture=architecture) for architecture in OPTIONS}


class Interruption:
    """A watcher that stops the training as Ctrl-C does, when it hears of an epoch."""

    def __init__(self, epoch: int | None) -> None:
        self.epoch = epoch
        self.heard: list[int] = []

    def __call__(self, progress: Progress) -> None:
        self.heard.append(progress.epoch)
        if progress.epoch == self.epoch:
            raise KeyboardInterrupt


class TestReproducible:
    """What decides about the result, and what does not."""

    @pytest.mark.parametrize("architecture", OPTIONS)
    def test_same_seed_gives_the_same_weights(
        self, architecture: str, digits: Images, straight: dict[str, Trained]
    ) -> None:
        torch.manual_seed(12345)  # what happened before has no say
        model, curve = trained(digits, architecture=architecture)
        assert same_state(model, straight[architecture][0])
        pd.testing.assert_frame_equal(curve, straight[architecture][1], check_exact=True)

    def test_other_seed_gives_other_weights(self, digits: Images, straight: dict[str, Trained]) -> None:
        model, _ = trained(digits, replace(SCHEDULE, seed=1))
        assert not same_state(model, straight["fully_connected"][0])

    @pytest.mark.parametrize("architecture", OPTIONS)
    @pytest.mark.parametrize("epoch", [2, 3])
    def test_interrupted_and_resumed_is_as_straight_through(
        self, architecture: str, epoch: int, digits: Images, straight: dict[str, Trained], tmp_path: Path
    ) -> None:
        state = tmp_path / "model.resume"
        with pytest.raises(KeyboardInterrupt):
            trained(digits, architecture=architecture, report=Interruption(epoch), resume=state)
        assert state.exists()
        watcher = Interruption(None)
        model, curve = trained(digits, architecture=architecture, report=watcher, resume=state)
        assert watcher.heard == list(range(epoch, 4))  # earlier epochs were not done again
        assert same_state(model, straight[architecture][0])
        pd.testing.assert_frame_equal(curve, straight[architecture][1], check_exact=True)
        remove(state)
        assert list(tmp_path.iterdir()) == []

    def test_state_of_another_training_is_not_taken_up(self, digits: Images, tmp_path: Path) -> None:
        state = tmp_path / "model.resume"
        other = replace(SCHEDULE, seed=1)
        with pytest.raises(KeyboardInterrupt):
            trained(digits, report=Interruption(2), resume=state)
        model, _ = trained(digits, other, resume=state)
        assert same_state(model, trained(digits, other)[0])

    def test_damaged_state_is_no_obstacle(self, digits: Images, straight: dict[str, Trained], tmp_path: Path) -> None:
        state = tmp_path / "model.resume"
        with pytest.raises(KeyboardInterrupt):
            trained(digits, report=Interruption(2), resume=state)
        state.write_bytes(state.read_bytes()[:1000])
        model, _ = trained(digits, resume=state)
        assert same_state(model, straight["fully_connected"][0])


class TestState:
    """What lies on disk between epochs, and when it is taken up."""

    def test_each_epochs_weights_are_written_once(self, digits: Images, tmp_path: Path) -> None:
        state = tmp_path / "model.resume"
        folder = tmp_path / "model.resume.snapshots"
        sizes, written = [], []

        def watch(progress: Progress) -> None:
            if state.exists():
                sizes.append(state.stat().st_size)
                written.append((folder / "1.pt").stat().st_mtime_ns)

        trained(digits, replace(SCHEDULE, epochs=5), report=watch, resume=state)
        assert len(sizes) == 4
        assert max(sizes) - min(sizes) < 4096  # rows of the curve
        assert len(set(written)) == 1
        remove(state)
        assert list(tmp_path.iterdir()) == []

    def test_missing_weights_of_an_epoch(self, digits: Images, straight: dict[str, Trained], tmp_path: Path) -> None:
        state = tmp_path / "model.resume"
        with pytest.raises(KeyboardInterrupt):
            trained(digits, report=Interruption(2), resume=state)
        (tmp_path / "model.resume.snapshots" / "1.pt").unlink()
        watcher = Interruption(None)
        model, _ = trained(digits, report=watcher, resume=state)
        assert watcher.heard == [1, 2, 3]
        assert same_state(model, straight["fully_connected"][0])

    @pytest.mark.parametrize("name", ["model.resume", "model.resume.snapshots/1.pt"])
    def test_damaged(
        self,
        name: str,
        digits: Images,
        straight: dict[str, Trained],
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """A flipped bit anywhere, a file cut short: said in one line, removed, and trained from the beginning."""
        state = tmp_path / "model.resume"
        with pytest.raises(KeyboardInterrupt):
            trained(digits, report=Interruption(2), resume=state)
        kept = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        content = kept[tmp_path / name]
        draw = random.Random(0)  # noqa: S311
        for place in (0, 60, len(content) // 2, len(content) - 1, draw.randrange(len(content))):
            for path, whole in kept.items():
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(whole)
            changed = bytearray(content)
            changed[place] ^= 1 << draw.randrange(8)
            (tmp_path / name).write_bytes(changed if place != 60 else content[:60])
            caplog.clear()
            watcher = Interruption(None)
            model, _ = trained(digits, report=watcher, resume=state)
            assert watcher.heard == [1, 2, 3]
            assert "is damaged (" in caplog.text
            assert "it is removed, and the training begins anew" in caplog.text
            assert same_state(model, straight["fully_connected"][0])

    @pytest.mark.parametrize("wrong", ["missing", "curve", "shape", "optimizer", "snapshots"])
    def test_that_does_not_fit(
        self,
        wrong: str,
        digits: Images,
        straight: dict[str, Trained],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """A state that verifies, but whose content is not that of a training, leaves no trace in the new one."""

        def save(self: State, path: Path, content: Mapping[str, Any]) -> None:
            content = dict(content)
            if "model" in content:
                weights = {key: value + 1 for key, value in content["model"].items()}
                first = next(iter(weights))
                changes: dict[str, dict[str, Any]] = {
                    "missing": {"model": weights, "cycle": None},
                    "curve": {"model": weights, "curve": []},
                    "shape": {"model": weights | {first: weights[first][:1]}},
                    "optimizer": {"model": weights, "optimizer": {"state": {}, "param_groups": []}},
                    "snapshots": {"model": weights, "snapshots": [77]},
                }
                content |= changes[wrong]
            original(self, path, content)

        original = State._save
        state = tmp_path / "model.resume"
        with monkeypatch.context() as patch:
            patch.setattr(State, "_save", save)
            with pytest.raises(KeyboardInterrupt):
                trained(digits, report=Interruption(2), resume=state)
        watcher = Interruption(None)
        model, _ = trained(digits, report=watcher, resume=state)
        assert watcher.heard == [1, 2, 3]
        assert same_state(model, straight["fully_connected"][0])

    def test_that_cannot_be_written(
        self, digits: Images, straight: dict[str, Trained], tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "file").write_text("")
        model, _ = trained(digits, resume=tmp_path / "file" / "model.resume")
        assert same_state(model, straight["fully_connected"][0])
        assert caplog.text.count("cannot be resumed if it is interrupted") == 1

    def test_code_counts(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        helper = tmp_path / "helper_of_a_user.py"
        helper.write_text("X = 1\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        importlib.import_module("helper_of_a_user")
        files = source_files()
        assert helper in files
        names = {path.name for path in files}
        assert {"convolutions.py", "images.py", "loop.py", "fully_connected.py", "registry.py"} <= names
        assert not any("site-packages" in path.parts for path in files)
        assert Path(importlib.__file__) not in files

    def test_changed_helper_starts_anew(self, digits: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        helper = tmp_path / "another_helper_of_a_user.py"
        helper.write_text("X = 1\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        importlib.import_module("another_helper_of_a_user")
        state = tmp_path / "states" / "model.resume"
        with pytest.raises(KeyboardInterrupt):
            trained(digits, report=Interruption(2), resume=state)
        helper.write_text("X = 2\n")
        watcher = Interruption(None)
        trained(digits, report=watcher, resume=state)
        assert watcher.heard == [1, 2, 3]


class TestGlobalState:
    """A training leaves torch as it found it."""

    @pytest.mark.parametrize("epoch", [None, 1])
    def test_is_restored(self, epoch: int | None, digits: Images) -> None:
        def settings() -> tuple[Any, ...]:
            return (
                torch.are_deterministic_algorithms_enabled(),
                torch.utils.deterministic.fill_uninitialized_memory,  # type: ignore[attr-defined]
                torch.get_rng_state().tolist(),
            )

        before = settings()
        with contextlib.suppress(KeyboardInterrupt):
            trained(digits, report=Interruption(epoch))
        assert settings() == before

    def test_returned_network_has_torchs_layers(self, straight: dict[str, Trained]) -> None:
        kinds = {type(layer) for layer in straight["convolutional"][0].modules()}
        assert {nn.Conv2d, nn.ConvTranspose2d} <= kinds
        assert not any(kind.__module__.startswith("latent_atlas.kernels") for kind in kinds)


def test_momentum_cycles_against_the_learning_rate() -> None:
    model = nn.Linear(1, 1)
    optimizer, cycle = one_cycle(model, SCHEDULE, 100, CPU)
    betas = []
    for _ in range(99):
        betas.append(optimizer.param_groups[0]["betas"])
        optimizer.step()
        cycle.step()
    first = [beta for beta, _ in betas]
    assert first[0] == pytest.approx(BETA1_HIGH)
    assert min(first) == pytest.approx(BETA1_LOW)
    assert first[-1] == pytest.approx(BETA1_HIGH, abs=1e-3)
    assert {beta for _, beta in betas} == {BETA2}


class TestResult:
    """What a training gives back."""

    @pytest.mark.parametrize("architecture", OPTIONS)
    def test_training_reduces_the_error(self, architecture: str, digits: Images) -> None:
        torch.manual_seed(SCHEDULE.seed)
        untrained = mean_error(build(architecture, digits.shape, 2, OPTIONS[architecture]), digits.test)
        best_constant = float((digits.test.double() / 255 - digits.train.double().mean(0) / 255).square().mean())
        model, _ = trained(digits, replace(SCHEDULE, epochs=10, peak_learning_rate=0.02), architecture)
        error = mean_error(model, digits.test)
        assert error < 0.4 * untrained
        assert error < 0.9 * best_constant  # better than to draw the mean image always

    def test_curve(self, digits: Images, straight: dict[str, Trained]) -> None:
        model, curve = straight["fully_connected"]
        assert list(curve.columns) == [
            "epoch", "step", "learning_rate", "train_loss", "train_mse", "test_mse",
        ]  # fmt: skip
        assert curve["epoch"].tolist() == [1, 2, 3]
        assert curve["step"].tolist() == [12, 24, 36]  # 1,500 images in batches of at most 128
        assert curve["test_mse"].is_monotonic_decreasing
        assert curve["train_loss"].is_monotonic_decreasing
        assert curve["train_mse"].iloc[-1] == mean_error(model, digits.train[: len(digits.test)])
        assert curve["test_mse"].iloc[-1] == mean_error(model, digits.test)

    def test_learning_rate_goes_through_one_cycle(self, digits: Images) -> None:
        schedule = replace(SCHEDULE, epochs=10)
        _, curve = trained(digits.take(128), schedule)  # one step an epoch
        rates = curve["learning_rate"]
        assert rates.iloc[0] == pytest.approx(0.005 / 25)
        assert rates.max() == pytest.approx(0.005)
        assert rates.idxmax() == 2  # after three tenths of the steps
        assert rates.iloc[-1] == pytest.approx(0.005 / 25 / 1e4)

    def test_network_is_ready_to_use(self, straight: dict[str, Trained]) -> None:
        for model, _ in straight.values():
            assert not model.training
            assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
            assert all(tensor.is_contiguous() for tensor in model.state_dict().values())

    def test_reports_its_progress(self, digits: Images) -> None:
        heard: list[Progress] = []
        trained(digits, report=heard.append)
        assert [(p.epoch, p.epochs, p.step, p.steps) for p in heard] == [(n, 3, 12 * n, 36) for n in (1, 2, 3)]
        assert all(np.isfinite(p.loss) and p.images_per_second > 0 for p in heard)
        assert heard[-1].seconds_left == 0

    def test_bfloat16_keeps_weights_in_float32(self, digits: Images, straight: dict[str, Trained]) -> None:
        model, curve = trained(digits, replace(SCHEDULE, precision="bfloat16"))
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
        assert not same_state(model, straight["fully_connected"][0])
        full = straight["fully_connected"][1]["test_mse"].iloc[-1]
        assert curve["test_mse"].iloc[-1] == pytest.approx(full, rel=0.1)

    def test_mean_error_is_that_of_the_definition(self, digits: Images, straight: dict[str, Trained]) -> None:
        model = straight["convolutional"][0].train()
        found = mean_error(model, digits.train)
        assert model.training  # as it was
        model.eval()
        x = digits.train.double() / 255
        with torch.no_grad():
            expected = float((model(x.float()).double() - x).square().mean())
        assert found == pytest.approx(expected, rel=1e-5)


class NotANumber(nn.Module):
    """A network whose output is no number once its weight has shrunk, which training makes it do."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return x * (1 + self.weight) / (self.weight >= 1)


class Unbounded(nn.Module):
    """A network without a sigmoid at its end, so that its error can grow."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class TestFailures:
    """A training that cannot start, or that goes astray."""

    @pytest.mark.parametrize("architecture", OPTIONS)
    def test_absurd_learning_rate(self, architecture: str, digits: Images) -> None:
        with pytest.raises(TrainingError, match="training diverged in epoch 1: the loss is nan") as caught:
            trained(digits, replace(SCHEDULE, peak_learning_rate=1e15), architecture)
        assert "at learning rate" in str(caught.value)
        assert "lower training.peak_learning_rate in params.yaml" in str(caught.value)

    def test_error_that_grows(self, digits: Images) -> None:
        with pytest.raises(TrainingError, match=r"in epoch 1: the test error .* is far above the untrained .* 0\.2"):
            train(Unbounded, digits, replace(SCHEDULE, peak_learning_rate=100), CPU)

    def test_loss_that_is_no_number(self, digits: Images) -> None:
        with pytest.raises(TrainingError, match="training diverged in epoch 1: the loss is nan"):
            train(NotANumber, digits, SCHEDULE, CPU)


@pytest.fixture(scope="module")
def path(straight: dict[str, Trained], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the convolutional network."""
    path = tmp_path_factory.mktemp("checkpoint") / "conv.safetensors"
    record = {"seed": "0", "note": "ä–1"}
    Checkpoint(straight["convolutional"][0], "convolutional", (1, 8, 8), 2, {"kernel": 3}, record).save(path)
    return path


class TestCheckpoint:
    """The file of a trained network."""

    def test_gives_back_the_network(self, path: Path, straight: dict[str, Trained]) -> None:
        loaded = Checkpoint.load(path)
        assert same_state(loaded.model, straight["convolutional"][0])
        assert not loaded.model.training
        assert (loaded.architecture, loaded.input_shape, loaded.latent_dim) == ("convolutional", (1, 8, 8), 2)
        assert loaded.options == {"kernel": 3}
        assert loaded.record == {"seed": "0", "note": "ä–1"}

    def test_runs_no_code_that_it_alone_names(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "class_of_a_stranger.py").write_text(
            "from pathlib import Path\n\nfrom latent_atlas.models.architectures.fully_connected import *\n\n"
            f"Path({str(tmp_path / 'ran')!r}).touch()\nMine = FullyConnectedAutoencoder\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        name = "class_of_a_stranger:Mine"
        path = tmp_path / "strange.safetensors"
        Checkpoint(build("fully_connected", (1, 8, 8), 2), name, (1, 8, 8), 2).save(path)
        for load in (Checkpoint.load, load_manifold):
            with pytest.raises(CheckpointError, match=f"names the architecture '{name}', whose code would be run"):
                load(path)
        assert not (tmp_path / "ran").exists()
        with pytest.raises(CheckpointError, match="whose code would be run"):
            load_manifold(path, trust=f"x{name}")
        assert not (tmp_path / "ran").exists()
        assert load_manifold(path, trust={name}).latent_dim == 2
        assert load_manifold(path, trust=name).latent_dim == 2
        assert (tmp_path / "ran").exists()

    @pytest.mark.parametrize(
        ("key", "text"),
        [("input_shape", "[1, 8]"), ("input_shape", "{"), ("input_shape", "[1, 8, -8]"), ("latent_dim", "two"),
         ("options", "[1]")],
    )  # fmt: skip
    def test_damaged_metadata(self, key: str, text: str, tmp_path: Path) -> None:
        metadata = {"kind": "autoencoder", "architecture": "fully_connected", "input_shape": "[1, 8, 8]",
                    "latent_dim": "2", "options": "{}"}  # fmt: skip
        path = tmp_path / "damaged.safetensors"
        write_safetensors(path, build("fully_connected", (1, 8, 8), 2).state_dict(), metadata | {key: text})
        with pytest.raises(CheckpointError, match=r"damaged\.safetensors has damaged metadata"):
            load_manifold(path)

    def test_of_another_architecture_names_the_layers(self, straight: dict[str, Trained], tmp_path: Path) -> None:
        path = tmp_path / "wrong.safetensors"
        Checkpoint(straight["fully_connected"][0], "convolutional", (1, 8, 8), 2, {"kernel": 3}).save(path)
        with pytest.raises(CheckpointError, match=r"lacks encoder\.econv1\.weight") as caught:
            Checkpoint.load(path)
        assert str(path) in str(caught.value)

    def test_of_another_latent_dimension_names_shapes(self, straight: dict[str, Trained], tmp_path: Path) -> None:
        path = tmp_path / "wrong.safetensors"
        Checkpoint(straight["fully_connected"][0], "fully_connected", (1, 8, 8), 3).save(path)
        expected = r"encoder\.elayer3\.weight is \(2, 128\) where the architecture has \(3, 128\)"
        with pytest.raises(CheckpointError, match=expected):
            Checkpoint.load(path)


class TestCommand:
    """``latent-atlas train``."""

    def test_same_bytes_again_also_in_a_process_of_its_own(self, study: Study, digits_file: Path) -> None:
        (study.folder / "b").mkdir()
        for folder, run in (("a", study.run), ("b", study.process)):
            run(*study.train_arguments("fc2", digits_file, folder))
        for name in ("fc2.safetensors", "curve.csv"):
            assert (study.folder / "a" / name).read_bytes() == (study.folder / "b" / name).read_bytes()

    def test_checkpoint_says_how_it_came_about(self, study: Study, digits: Images, digits_file: Path) -> None:
        study.edit("models.fc4.training", {"epochs": 3, "optimizer": "muon"})
        done = study.run(*study.train_arguments("fc4", digits_file, "out"), "--log", "logs/fc4.log")
        assert done.exit_code == 0, done.output
        assert ", on cpu, float32" in (study.folder / "logs" / "fc4.log").read_text(encoding="utf-8")
        metadata, _ = read_safetensors(study.folder / "out" / "fc4.safetensors")
        curve = pd.read_csv(study.folder / "out" / "curve.csv")
        stated = {
            "kind": "autoencoder",
            "architecture": "fully_connected",
            "latent_dim": "4",
            "input_shape": "[1, 8, 8]",
            "seed": "0",
            "epochs": "3",  # the model's own, not the section's 2
            "batch_size": "128",
            "peak_learning_rate": "0.005",
            "optimizer": "muon",
            "precision": "float32",
            "version_torch": torch.__version__,
            "version_numpy": np.__version__,
            "dataset_sha256": digits.checksum,
        }
        assert {key: metadata.get(key) for key in stated} == stated
        assert {"version_latent-atlas", "version_python"} <= metadata.keys()
        assert len(curve) == 3
        assert float(metadata["train_mse"]) == pytest.approx(curve["train_mse"].iloc[-1], rel=1e-8)
        assert float(metadata["test_mse"]) == pytest.approx(curve["test_mse"].iloc[-1], rel=1e-8)
        model = Checkpoint.load(study.folder / "out" / "fc4.safetensors").model
        assert mean_error(model, digits.test) == pytest.approx(float(metadata["test_mse"]), rel=1e-6)
        log = (study.folder / "logs" / "fc4.log").read_text()
        assert "epoch 3/3" in log
        assert "images/s" in log

    def test_interrupted_command_goes_on(
        self, study: Study, digits: Images, digits_file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The state that an interrupted call leaves beside its checkpoint is what the next call takes up."""
        from latent_atlas.stages import train as stage

        def stop_in_epoch_2(progress: Progress) -> None:
            if progress.epoch == 2:
                raise KeyboardInterrupt

        arguments = study.train_arguments("fc4", digits_file, "a")
        with monkeypatch.context() as patch:
            patch.setattr(stage, "_say", stop_in_epoch_2)
            assert study.run(*arguments).exit_code != 0
        assert not (study.folder / "a" / "fc4.safetensors").exists()
        second = study.run(*arguments)
        assert second.exit_code == 0, second.output
        assert "epoch 1/3" not in second.stderr
        assert "epoch 2/3" in second.stderr
        assert "goes on after epoch 1 of" in second.stderr
        study.run(*study.train_arguments("fc4", digits_file, "b"))
        assert (study.folder / "a" / "fc4.safetensors").read_bytes() == (
            study.folder / "b" / "fc4.safetensors"
        ).read_bytes()
        assert sorted(path.name for path in (study.folder / "a").iterdir()) == sorted(
            path.name for path in (study.folder / "b").iterdir()
        )

    @pytest.mark.parametrize(
        ("key", "value", "says"),
        [
            ("training.peak_learning_rate", 1e15, "training diverged in epoch"),
            ("training.device", "cuda:9", "device 'cuda:9' is not available here"),
            ("models.fc2.options", {"depth": 3}, "'fully_connected' does not take these options"),
            ("models.fc2.latent_dim", 65, "models.fc2.latent_dim: 65 is too large"),
        ],
    )
    def test_errors_name_the_cause(self, study: Study, digits_file: Path, key: str, value: Any, says: str) -> None:
        study.edit(key, value)
        done = study.run(*study.train_arguments("fc2", digits_file, "out"))
        assert done.exit_code == 1
        assert says in done.stderr
        assert not list(study.folder.rglob("*.safetensors"))

    def test_unknown_model(self, study: Study, digits_file: Path) -> None:
        done = study.run(*study.train_arguments("fc3", digits_file, "out"))
        assert done.exit_code == 1
        assert "params.yaml has no manifold 'fc3': it has fc2, fc4" in done.stderr

    def test_architecture_beside_the_parameter_file(self, study: Study, digits_file: Path) -> None:
        (study.folder / "of_the_user.py").write_text(
            "from latent_atlas.models.architectures.fully_connected import FullyConnectedAutoencoder\n"
            "class Narrow(FullyConnectedAutoencoder):\n"
            "    def __init__(self, input_shape, latent_dim):\n"
            "        super().__init__(input_shape, latent_dim, widths=(8, 6))\n"
        )
        study.edit("models.fc2.architecture", "of_the_user:Narrow")
        done = study.process(*study.train_arguments("fc2", digits_file, "out"))
        assert done.returncode == 0, done.stderr
        _, tensors = read_safetensors(study.folder / "out" / "fc2.safetensors")
        assert tensors["encoder.elayer2.weight"].shape == (6, 8)


def test_summary_is_the_last_epoch_of_each_model(finished: Study) -> None:
    folder = finished.folder / "results" / "train"
    curves, summary = pd.read_csv(folder / "curves.csv"), pd.read_csv(folder / "summary.csv")
    assert summary["model"].tolist() == summary["manifold"].tolist() == ["fc2", "fc4"]
    assert summary["seed"].tolist() == [0, 0]
    assert summary["epoch"].tolist() == [2, 3]
    for row in summary.to_dict("records"):
        own = pd.read_csv(folder / row["model"] / "curve.csv").iloc[-1]
        assert row["test_mse"] == own["test_mse"]
    assert len(curves) == 5
