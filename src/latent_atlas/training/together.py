"""Training several seeds of one model at once, as one batch of networks.

The weights of the networks are stacked, and ``torch.func.vmap`` computes the losses of all of them with the operations
of one: products of matrices become batches of products, convolutions become grouped ones. One optimizer takes the
steps, for Adam treats each number by itself and Muon each matrix, and the learning rate is the same for all seeds. Each
network has the fresh weights, the order of batches and the random numbers of the objective of a training by itself.

Where this is faster and where not is in ``docs/training.md``.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.overrides import TorchFunctionMode

from latent_atlas.data.images import Images, as_float
from latent_atlas.errors import TrainingError, counted
from latent_atlas.models.surroundings import copied
from latent_atlas.training.loop import DIVERGED, NOISE_STREAM, SNAPSHOTS, Progress, Trained, mean_error
from latent_atlas.training.loop import _Clock as Clock
from latent_atlas.training.loop import _diverged as diverged
from latent_atlas.training.means import Means
from latent_atlas.training.objectives import Objective, objective
from latent_atlas.training.rehearsal import autocast, rehearse
from latent_atlas.training.reproducible import reproducible
from latent_atlas.training.schedule import Schedule, one_cycle
from latent_atlas.training.state import Done, State, fingerprint

IMAGES = 16  # of the step that is compared with single ones
TOLERANCE = 1e-2  # of the largest gradient, in that step: rounding is far below it, another computation above


def together(
    build: Callable[[], nn.Module],
    images: Images,
    schedule: Schedule,
    seeds: Sequence[int],
    device: torch.device,
    report: Callable[[Progress], None] = lambda progress: None,
    resume: Path | None = None,
    on_resume: Callable[[int], None] = lambda epochs: None,
) -> dict[int, Trained]:
    """Train a model with several seeds at once: for each of them what :func:`latent_atlas.training.loop.train` gives.

    The results agree with those of single trainings up to rounding, which grows from step to step, and not to the last
    bit. The same arguments on the same machine give the same bytes, whether the training ran through or was resumed.

    Parameters
    ----------
    build : callable
        Gives the network with fresh weights, from torch's global random generator.
    images : Images
    schedule : Schedule
        Its seed is not used.
    seeds : sequence of int
        Each once.
    device : torch.device
    report : callable, optional
        Called a few times a minute with a :class:`latent_atlas.training.loop.Progress`; its loss is the mean of all
        networks, and an image counts once for each network.
    resume : Path, optional
        Where to keep the state of all networks, as for a single training.
    on_resume : callable, optional
        Called with the number of epochs already done, when a stored training goes on.

    Returns
    -------
    dict of int to Trained
        By seed.

    Raises
    ------
    TrainingError
        If no seed is given, or one twice. If the model or the objective cannot be computed for several networks at
        once, or gives something else there: it is then trained one seed after another. If the training of a seed
        diverges.
    """
    if not seeds or len(set(seeds)) < len(seeds):
        raise TrainingError(f"seeds {list(seeds)} cannot be trained together: give at least one, and each once")
    schedules = [replace(schedule, seed=seed) for seed in seeds]
    models = []
    for each in schedules:
        with reproducible(device, each.seed):
            models.append(build())
    with reproducible(device, schedules[0].seed):
        return _together(build, models, images, schedules, device, report, resume, on_resume)


def _together(
    build: Callable[[], nn.Module],
    models: list[nn.Module],
    images: Images,
    schedules: list[Schedule],
    device: torch.device,
    report: Callable[[Progress], None],
    resume: Path | None,
    on_resume: Callable[[int], None],
) -> dict[int, Trained]:
    schedule, seeds = schedules[0], [each.seed for each in schedules]
    loss_of = objective(schedule.objective)
    rehearse(build, models[0], loss_of, images, schedule, device)
    _compare(build, models, loss_of, images, schedule, device)
    pixels, test = images.train.to(device), images.test.to(device)
    if len(pixels) < 2:
        raise TrainingError(
            f"{images.name} has {counted(len(pixels), 'training image')} here; BatchNorm needs at least two"
        )
    batches, steps, epochs, epochs_a_row = schedule.length(len(pixels))
    snapshot_every = schedule.snapshot_every or math.ceil(math.ceil(epochs / epochs_a_row) / SNAPSHOTS)
    stack = Stack([model.to(device).train() for model in models], loss_of)
    optimizer, cycle = one_cycle(stack, schedule, steps, device, stacked=True)
    orders = [torch.Generator().manual_seed(seed) for seed in seeds]
    noises = [torch.Generator().manual_seed(seed ^ NOISE_STREAM) for seed in seeds]
    networks = nn.ModuleList(models)
    own = f"{seeds} {getattr(models[0], 'recipe', '')} {fingerprint(networks, images, schedule, device)}"
    own = hashlib.sha256(own.encode()).hexdigest()
    state = State(resume, own, networks, optimizer, cycle, (*orders, *noises), device)
    start_errors = [mean_error(model, test) for model in models]
    # Rows of all networks, one network after another in each epoch; names of weights begin with the network's seed.
    done = state.restore()
    if done is None:
        done = Done(max(start_errors), [], {})
    else:
        on_resume(int(done.curve[-1]["epoch"]))
    first = int(done.curve[-1]["epoch"]) if done.curve else 0
    clock = Clock(steps - first * batches)
    means = Means(schedule.objective)
    for epoch in range(first, epochs):
        ends_row = (epoch + 1) % epochs_a_row == 0 or epoch + 1 == epochs
        order = torch.stack([torch.randperm(len(pixels), generator=each) for each in orders])  # S x N
        parts = order.tensor_split(batches, dim=1)[: steps - epoch * batches]
        for step, index in enumerate(parts, start=epoch * batches + 1):
            x = as_float(pixels[index.to(device)])  # S x B x C x H x W
            with autocast(device, schedule.precision):
                losses, metrics = stack(x, noises)  # S each
            optimizer.zero_grad(set_to_none=True)
            losses.sum().backward()
            optimizer.step()
            rate = optimizer.param_groups[0]["lr"]
            cycle.step()
            means.add(losses, metrics, index.shape[1])
            clock.tick(index.numel())
            if clock.due or (ends_row and index is parts[-1]):
                found = means["train_loss"]
                for seed, mean in zip(seeds, found, strict=True):
                    if not math.isfinite(mean):
                        raise _of(seed, diverged(epoch + 1, f"the loss is {mean}", float(rate)))
                speed, left = clock.read()
                report(Progress(epoch + 1, epochs, step, steps, sum(found) / len(found), speed, left))
        if not ends_row:
            continue
        for number, (seed, model) in enumerate(zip(seeds, models, strict=True)):
            row = {
                "epoch": epoch + 1,
                "step": step,
                "learning_rate": float(rate),
                **means.of(number),
                "train_mse": mean_error(model, pixels[: len(test)]),
                "test_mse": mean_error(model, test),
            }
            done.curve.append(row)
            error, start = row["test_mse"], start_errors[number]
            if error > DIVERGED * start:
                what = f"the test error {error:.3g} is far above {start:.3g} before training"
                raise _of(seed, diverged(epoch + 1, what, float(rate)))
        means.clear()
        if len(done.curve) // len(seeds) % snapshot_every == 0 or epoch + 1 == epochs:
            done.snapshots[epoch + 1] = {
                f"{seed}/{name}": value.detach().cpu().clone(memory_format=torch.contiguous_format)
                for seed, model in zip(seeds, models, strict=True)
                for name, value in model.state_dict().items()
            }
        state.store(done)
    return {
        seed: Trained(
            _alone(model),
            pd.DataFrame(done.curve[number :: len(seeds)]).astype({"epoch": int, "step": int}),
            {epoch: _within(f"{seed}/", weights) for epoch, weights in done.snapshots.items()},
        )
        for number, (seed, model) in enumerate(zip(seeds, models, strict=True))
    }


class Stack(nn.Module):
    """Networks of one architecture whose weights lie in common tensors, the parameters of this module.

    The networks stay usable: their weights and running statistics become views of the common tensors.

    Parameters
    ----------
    models : list of nn.Module
        S networks on one device, in training mode.
    loss_of : callable
        The objective.
    """

    def __init__(self, models: Sequence[nn.Module], loss_of: Objective) -> None:
        super().__init__()
        weights, self.statistics = stack_module_state(list(models))  # S x ... each
        self.names = list(weights)
        self.weights = nn.ParameterList(nn.Parameter(w.detach(), w.requires_grad) for w in weights.values())
        self.one = [_Loss(models[0], loss_of)]  # in a list, or its weights would be this module's too
        for index, model in enumerate(models):
            for name, weight in model.named_parameters():
                weight.data = weights[name].data[index]
            for name, statistic in model.named_buffers():
                statistic.data = self.statistics[name][index]

    def forward(self, x: Tensor, generators: Sequence[torch.Generator]) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The losses (S,) and metrics (S,) of images (S, B, C, H, W), each network's by its own generator."""

        def of_one(state: dict[str, Tensor], x: Tensor) -> Any:
            with _Draws(generators, x):
                return functional_call(self.one[0], state, (x, generators[0]))

        state = dict(zip(self.names, self.weights, strict=True)) | self.statistics
        found: tuple[Tensor, Mapping[str, Tensor]] = vmap(of_one)({f"model.{n}": t for n, t in state.items()}, x)
        return found


class _Loss(nn.Module):
    """An objective of a network as a module, for :func:`torch.func.functional_call`."""

    def __init__(self, model: nn.Module, loss_of: Objective) -> None:
        super().__init__()
        self.model, self.loss_of = model, loss_of

    def forward(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Mapping[str, Tensor]]:
        return self.loss_of(self.model, x, generator)


class _Draws(TorchFunctionMode):
    """Within the block, what is drawn with the first of the generators is drawn with each, for its own network."""

    def __init__(self, generators: Sequence[torch.Generator], x: Tensor) -> None:
        super().__init__()
        self.generators, self.x = generators, x

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        options = kwargs or {}
        if options.get("generator") is not self.generators[0]:
            return func(*args, **options)
        return _Drawn.apply(self.x, lambda: [func(*args, **options | {"generator": one}) for one in self.generators])


class _Drawn(torch.autograd.Function):
    """A tensor for each network of a batch: what a function gives, which is called outside of the batch."""

    @staticmethod
    def forward(x: Tensor, draw: Callable[[], list[Tensor]]) -> Tensor:
        raise AssertionError("only called within vmap")

    @staticmethod
    def setup_context(context: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        context.mark_non_differentiable(output)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], x: Tensor, draw: Callable[[], list[Tensor]]) -> tuple[Tensor, int]:
        return torch.stack(draw()), 0  # S x ...


def _compare(
    build: Callable[[], nn.Module],
    models: Sequence[nn.Module],
    loss_of: Objective,
    images: Images,
    schedule: Schedule,
    device: torch.device,
) -> None:
    """Take a step with copies of two networks singly and together, and refuse what differs."""
    x = as_float(images.train[:IMAGES]).to(device)  # n x C x H x W
    x = torch.stack([x, x.flip(0)])[: len(models)]  # S x n x C x H x W, of two networks at most
    singly, batch = ([copied(model, build).to(device).train() for model in models[:2]] for _ in range(2))
    refusal = (
        f"objective {schedule.objective!r} with {type(models[0]).__name__} cannot be computed for several networks at "
        f"once ({{}}): train one seed after another"
    )
    single = []
    for number, model in enumerate(singly):
        loss, metrics = loss_of(model, x[number], torch.Generator().manual_seed(number))
        loss.backward()
        single.append({"loss": loss, **metrics})
    try:
        stack = Stack(batch, loss_of)
        losses, metrics = stack(x, [torch.Generator().manual_seed(number) for number in range(len(batch))])
        losses.sum().backward()
    except Exception as error:  # whatever a network of somebody else does
        reason = str(error).strip().partition("\n")[0].partition(". ")[0]
        raise TrainingError(refusal.format(f"{type(error).__name__}: {reason}")) from error
    pairs = {
        name: (_flat(each[name] for each in single), _flat([value]))
        for name, value in {"loss": losses, **metrics}.items()
    }
    weights, statistics = ([dict(each) for each in all_of] for all_of in (
        (model.named_parameters() for model in singly), (model.named_buffers() for model in singly)
    ))  # fmt: skip
    pairs["gradient"] = (
        _flat(_gradient(one[name]) for name in stack.names for one in weights),
        _flat(_gradient(weight) for weight in stack.weights),
    )
    pairs["running statistics"] = (
        _flat(one[name] for name in stack.statistics for one in statistics),
        _flat(stack.statistics.values()),
    )
    for name, (one, other) in pairs.items():
        if not torch.allclose(one, other, rtol=0, atol=TOLERANCE * float(one.abs().max()), equal_nan=True):
            raise TrainingError(refusal.format(f"the {name} differs from that of single trainings"))


def _flat(tensors: Iterable[Tensor]) -> Tensor:
    """All numbers of some tensors."""
    return torch.cat([torch.zeros(1), *(tensor.detach().flatten().cpu().float() for tensor in tensors)])


def _gradient(weight: Tensor) -> Tensor:
    return torch.zeros_like(weight) if weight.grad is None else weight.grad


def _alone(model: nn.Module) -> nn.Module:
    """A network of a stack with weights of its own, on the CPU, in eval mode."""
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
    return model.eval()


def _within(prefix: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What is named below a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def _of(seed: int, error: TrainingError) -> TrainingError:
    return TrainingError(f"seed {seed}: {error}")


__all__ = ["Stack", "together"]
