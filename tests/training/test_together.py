"""Several seeds trained at once: each as if it were trained by itself."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from latent_atlas.data.images import Images
from latent_atlas.errors import TrainingError
from latent_atlas.models.registry import build
from latent_atlas.training.loop import Progress, Schedule, train
from latent_atlas.training.objectives import objective
from latent_atlas.training.schedule import one_cycle
from latent_atlas.training.together import Stack, together

CPU = torch.device("cpu")
SCHEDULE = Schedule(epochs=3, batch_size=64, peak_learning_rate=5e-3, precision="float32", seed=0)
SEEDS = [4, 0, 9]
ARCHITECTURES: dict[str, dict[str, Any]] = {"fully_connected": {}, "convolutional": {"kernel": 3}}


@pytest.fixture(scope="module")
def few(digits: Images) -> Images:
    """The first 200 digits, and 60 to test."""
    return Images("digits", digits.train[:200], digits.train_labels[:200], digits.test[:60], digits.test_labels[:60],
                  digits.classes)  # fmt: skip


def fresh(architecture: str = "fully_connected", options: dict[str, Any] | None = None) -> Callable[[], nn.Module]:
    options = ARCHITECTURES[architecture] | (options or {})
    return lambda: build(architecture, (1, 8, 8), 4, options)


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether two state dicts hold the same tensors to the last bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class Small(nn.Module):
    """A network that is not of this package, with layers of one's choice between its two ends."""

    def __init__(self, *between: nn.Module) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), *between, nn.Linear(8, 4))
        self.decoder = nn.Sequential(nn.Linear(4, 64), nn.Sigmoid(), nn.Unflatten(1, (1, 8, 8)))

    def forward(self, x: Tensor) -> Tensor:
        decoded: Tensor = self.decoder(self.encoder(x))
        return decoded


class OwnNoise(nn.Module):
    """A network that draws random numbers by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.small = Small()

    def forward(self, x: Tensor) -> Tensor:
        drawn: Tensor = self.small(x + 0.1 * torch.randn(x.shape))
        return drawn


class TestAsSingly:
    """What is the same as in a training of one seed."""

    @pytest.mark.parametrize(
        ("architecture", "chosen", "options"),
        [
            ("fully_connected", "mse", {}),
            ("convolutional", "mse", {}),
            ("convolutional", {"denoising": {"noise": 0.2}}, {}),
            ("fully_connected", {"vae": {"beta": 0.5}}, {"variational": True}),
        ],
    )
    def test_curves_of_built_in_networks(
        self, architecture: str, chosen: Any, options: dict[str, Any], few: Images
    ) -> None:
        make, schedule = fresh(architecture, options), replace(SCHEDULE, objective=chosen)
        found = together(make, few, schedule, SEEDS, CPU)
        assert list(found) == SEEDS
        for seed, (model, curve, snapshots) in found.items():
            single = train(make, few, replace(schedule, seed=seed), CPU)
            assert list(curve.columns) == list(single.curve.columns)
            assert list(curve.dtypes) == list(single.curve.dtypes)
            # In eval mode rounding errors are larger on the way: see docs/training.md.
            learned = curve.drop(columns=["train_mse", "test_mse"])
            torch.testing.assert_close(
                torch.tensor(learned.to_numpy()), torch.tensor(single.curve[learned.columns].to_numpy()),
                rtol=0, atol=1e-5,
            )  # fmt: skip
            assert curve["test_mse"].iloc[-1] == pytest.approx(single.curve["test_mse"].iloc[-1], rel=1e-2)
            assert list(snapshots) == list(single.snapshots) == [1, 2, 3]
            assert same(snapshots[3], model.state_dict())
            shapes = {name: (value.shape, value.dtype) for name, value in model.state_dict().items()}
            assert shapes == {name: (value.shape, value.dtype) for name, value in single.model.state_dict().items()}
            assert not model.training
        assert len({float(curve["test_mse"].iloc[-1]) for _, curve, _ in found.values()}) == len(SEEDS)

    @pytest.mark.parametrize(
        ("architecture", "chosen", "options", "optimizer"),
        [
            ("fully_connected", "mse", {}, "adam"),
            ("convolutional", "denoising", {}, "adam"),
            ("convolutional", "vae", {"variational": True}, "adam"),
            ("fully_connected", "mse", {}, "muon"),
            ("convolutional", "mse", {}, "muon"),
        ],
    )
    def test_steps_in_float64(self, architecture: str, chosen: str, options: dict[str, Any], optimizer: str) -> None:
        """Losses are computed in float32 at the end, so weights and running statistics are compared."""
        loss_of = _in_float64(objective(chosen))
        models = [fresh(architecture, options)().double().train() for _ in range(3)]
        alone = [copy.deepcopy(model) for model in models]
        stack = Stack(models, loss_of)
        schedule = replace(SCHEDULE, optimizer=optimizer)
        optimizers = [one_cycle(model, schedule, 20, CPU, stacked=model is stack) for model in (stack, *alone)]
        draws, same_draws = ([torch.Generator().manual_seed(seed) for seed in SEEDS] for _ in range(2))
        for _ in range(20):
            x = torch.rand(3, 32, 1, 8, 8, dtype=torch.float64)
            losses, metrics = stack(x, draws)
            each = [loss_of(model, *given) for model, *given in zip(alone, x, same_draws, strict=True)]
            torch.testing.assert_close(losses, torch.stack([loss for loss, _ in each]), rtol=0, atol=1e-10)
            for name, values in metrics.items():
                expected = torch.stack([own[name] for _, own in each])
                torch.testing.assert_close(values, expected, rtol=0, atol=1e-10)
            for each_optimizer, _ in optimizers:
                each_optimizer.zero_grad()
            sum([losses.sum(), *(loss for loss, _ in each)]).backward()
            for each_optimizer, cycle in optimizers:
                each_optimizer.step()
                cycle.step()
        for model, single in zip(models, alone, strict=True):
            for (name, one), other in zip(model.named_buffers(), single.buffers(), strict=True):
                assert name.endswith("num_batches_tracked") or not torch.equal(one, torch.zeros_like(one))
                torch.testing.assert_close(one, other, rtol=0, atol=1e-8)

    def test_network_of_the_user(self, few: Images) -> None:
        make = lambda: Small(nn.GroupNorm(2, 8), nn.ReLU(inplace=True))  # noqa: E731
        found = together(make, few, SCHEDULE, [1, 2], CPU)
        for seed in found:
            single = train(make, few, replace(SCHEDULE, seed=seed), CPU)
            torch.testing.assert_close(
                torch.tensor(found[seed].curve.to_numpy()), torch.tensor(single.curve.to_numpy()), rtol=0, atol=1e-5
            )

    def test_frozen_weights_stay(self, few: Images) -> None:
        def partly_frozen() -> nn.Module:
            model = Small()
            next(model.parameters()).requires_grad_(False)
            return model

        found = together(partly_frozen, few, SCHEDULE, [1, 2], CPU)
        for seed, (model, curve, _) in found.items():
            torch.manual_seed(seed)
            assert torch.equal(next(model.parameters()), next(Small().parameters()))
            single = train(partly_frozen, few, replace(SCHEDULE, seed=seed), CPU).curve
            torch.testing.assert_close(
                torch.tensor(curve.to_numpy()), torch.tensor(single.to_numpy()), rtol=0, atol=1e-5
            )

    def test_eval_errors_agree_without_a_bias_in_front_of_batchnorm(self, few: Images) -> None:
        def unbiased() -> nn.Module:
            model: Any = fresh("convolutional")()
            model.decoder.dconv1.bias.requires_grad_(False)
            return model

        schedule = replace(SCHEDULE, peak_learning_rate=1e-2)
        found = together(unbiased, few, schedule, [3, 7], CPU)
        for seed, (_, curve, _) in found.items():
            single = train(unbiased, few, replace(schedule, seed=seed), CPU).curve
            torch.testing.assert_close(
                torch.tensor(curve.to_numpy()), torch.tensor(single.to_numpy()), rtol=0, atol=1e-5
            )

    def test_length_in_steps_and_rows_of_several_epochs(self, few: Images) -> None:
        schedule = replace(SCHEDULE, epochs=None, steps=115, batch_size=200, snapshot_every=20)
        single = train(Small, few, schedule, CPU)
        found = together(Small, few, schedule, [0], CPU)[0]
        assert found.curve["epoch"].tolist() == single.curve["epoch"].tolist()
        assert found.curve["step"].tolist() == single.curve["step"].tolist()
        assert list(found.snapshots) == list(single.snapshots)

    def test_random_generator_of_torch_is_left_alone(self, few: Images) -> None:
        before = torch.get_rng_state()
        together(fresh(), few, replace(SCHEDULE, epochs=1), [1, 2], CPU)
        assert torch.equal(torch.get_rng_state(), before)


def _in_float64(loss_of: Any) -> Any:
    """An objective whose casts to float32 are left out."""

    def loss(model: nn.Module, x: Tensor, generator: torch.Generator) -> Any:
        with _Wide():
            return loss_of(model, x, generator)

    return loss


class _Wide(torch.overrides.TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return args[0] if func is Tensor.float else func(*args, **(kwargs or {}))


class StopError(Exception):
    """An interruption."""


class TestResume:
    """An interrupted training gives the same bytes as one that ran through."""

    def test_same_weights_curves_and_snapshots(self, few: Images, tmp_path: Path) -> None:
        schedule, resume = replace(SCHEDULE, objective="denoising", snapshot_every=2), tmp_path / "state.resume"
        straight = together(fresh(), few, schedule, SEEDS, CPU)

        def stop(progress: Progress) -> None:
            if progress.epoch == 3:
                raise StopError

        with pytest.raises(StopError):
            together(fresh(), few, schedule, SEEDS, CPU, stop, resume)
        heard: list[int] = []
        again = together(fresh(), few, schedule, SEEDS, CPU, lambda at: heard.append(at.epoch), resume, heard.append)
        assert heard == [2, 3]  # goes on after the second epoch
        for seed in SEEDS:
            assert same(straight[seed].model.state_dict(), again[seed].model.state_dict())
            assert straight[seed].curve.equals(again[seed].curve)
            assert list(straight[seed].snapshots) == list(again[seed].snapshots) == [2, 3]
            assert all(same(straight[seed].snapshots[at], again[seed].snapshots[at]) for at in (2, 3))

    @pytest.mark.parametrize("seeds", [[4, 0], [0, 4, 9], [4, 0, 8]])
    def test_state_of_other_seeds_is_not_taken_up(self, seeds: list[int], few: Images, tmp_path: Path) -> None:
        resume = tmp_path / "state.resume"
        together(Small, few, replace(SCHEDULE, epochs=1), SEEDS, CPU, resume=resume)
        heard: list[int] = []
        together(Small, few, replace(SCHEDULE, epochs=1), seeds, CPU, resume=resume, on_resume=heard.append)
        assert heard == []
        together(Small, few, replace(SCHEDULE, epochs=1), seeds, CPU, resume=resume, on_resume=heard.append)
        assert heard == [1]


class TestRefused:
    """What is not trained so, and is said in one sentence."""

    @pytest.mark.parametrize("chosen", ["bce", "contractive", "isometric"])
    def test_objective(self, chosen: str, few: Images) -> None:
        with pytest.raises(
            TrainingError,
            match=f"objective '{chosen}' with FullyConnectedAutoencoder cannot be computed for several networks at "
            r"once \(RuntimeError: .*\): train one seed after another",
        ):
            together(fresh(), few, replace(SCHEDULE, objective=chosen), SEEDS, CPU)

    @pytest.mark.parametrize(
        "make", [lambda: Small(nn.Dropout(0.5)), lambda: Small(nn.BatchNorm1d(8, momentum=None)), OwnNoise]
    )
    def test_network(self, make: Callable[[], nn.Module], few: Images) -> None:
        with pytest.raises(
            TrainingError, match=r"cannot be computed for several networks at once \(RuntimeError: vmap"
        ):
            together(make, few, SCHEDULE, SEEDS, CPU)

    def test_objective_that_mixes_networks(self, few: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Numbers drawn in place are the same for all networks."""
        (tmp_path / "in_place_for_a_test.py").write_text(
            "import torch\n\ndef loss(model, x, generator):\n    noise = torch.empty(x.shape)\n"
            "    noise.normal_(generator=generator)\n    return ((model(x + noise) - x) ** 2).mean(), {}\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        with pytest.raises(
            TrainingError, match=r"at once \(the gradient differs from that of single trainings\): train one"
        ):
            together(fresh(), few, replace(SCHEDULE, objective="in_place_for_a_test:loss"), SEEDS, CPU)

    @pytest.mark.parametrize("seeds", [[], [1, 2, 1]])
    def test_seeds(self, seeds: list[int], few: Images) -> None:
        with pytest.raises(TrainingError, match="cannot be trained together: give at least one, and each once"):
            together(fresh(), few, SCHEDULE, seeds, CPU)

    def test_divergence_names_the_seed(self, few: Images) -> None:
        def unbounded() -> nn.Module:
            model = Small()
            model.decoder[1] = nn.Identity()
            return model

        with pytest.raises(TrainingError, match=r"^seed [409]: training diverged in epoch \d: .*; lower training.peak"):
            together(unbounded, few, replace(SCHEDULE, peak_learning_rate=100.0), SEEDS, CPU)
