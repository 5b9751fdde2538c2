"""Parameter files that chance makes: each is read or refused in one clear message, within a second."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from fuzzing import EXAMPLES, Tally
from fuzzing import quick as of
from hypothesis import example, given
from hypothesis import strategies as some
from ruamel.yaml import YAML
from support import ROOT

from latent_atlas.errors import ParamsError
from latent_atlas.study import schema

SHIPPED = schema.read(ROOT / "params.yaml")
NASTY: tuple[Any, ...] = (
    0, -1, 1, 2, 10**6, 2**62, 2**64, -(2**64), 10**400, 1e-300, 1e300, 0.5, True, None, "", "x", [], {}, [[1]],
    "../../x", "a b", "$(touch X)", "{x}", "ü" * 300, "x" * 10_000, {"a": {"b": 1}}, ["x"] * 300, "\u202e",
    "evil:Evil", "os:system", "train/99999999999999999999", "module:", float("inf"), float("nan"), "*.png", "&x", "~",
    "\n", "<x>", "conv16", "pca16",
)  # fmt: skip


def places(values: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each value."""
    if place:
        yield place
    for key, value in values.items() if isinstance(values, dict) else enumerate(values if type(values) is list else []):
        yield from places(value, (*place, key))


def told(values: Any, found: Any) -> bool:
    """Whether all that stands in a file is what was read; nulls stand for values that are filled in."""
    if isinstance(values, dict):
        return all(told(value, found[key]) for key, value in values.items())
    return values is None or values == found


def refused_or_read(path: Path, tally: Tally) -> str | None:
    """The message of a refusal, or None if the file can be used; anything else fails the test."""
    start = time.process_time()
    message = tally.case(
        lambda: schema.load(path),
        lambda found: told(schema.read(path), found.model_dump()) or pytest.fail("it differs"),
    )
    assert time.process_time() - start < 1 or EXAMPLES
    return message


quick = of(150)


@quick
@given(
    changes=some.lists(
        some.tuples(
            some.sampled_from(sorted(places(SHIPPED), key=repr)),
            some.sampled_from(range(len(NASTY))) | some.text(max_size=30) | some.floats() | some.integers(),
            some.sampled_from(["value", "key", "gone"]),
        ),
        min_size=1,
        max_size=3,
    )
)
def test_shipped_file_with_other_values(
    changes: list[tuple[tuple[Any, ...], Any, str]], tmp_path: Path, tally: Tally
) -> None:
    values = copy.deepcopy(SHIPPED)
    for place, chosen, how in changes:
        value = NASTY[chosen] if type(chosen) is int and 0 <= chosen < len(NASTY) else chosen
        around = values
        try:
            for key in place[:-1]:
                around = around[key]
            if how == "gone":
                del around[place[-1]]
            elif how == "key" and isinstance(around, dict):
                cast(dict[Any, Any], around)[value if isinstance(value, (str, int, float)) else "other"] = around.pop(
                    place[-1]
                )
            else:
                around[place[-1]] = copy.deepcopy(value)
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change has taken it away
    path = tmp_path / "params.yaml"
    with path.open("w", encoding="utf-8", errors="replace") as file:
        YAML(typ="safe", pure=True).dump(values, file)
    message = refused_or_read(path, tally)
    assert message is None or (message.strip() and "Traceback" not in message)


@quick
@given(text=some.text(max_size=200) | some.text(alphabet="[]{}:,-&*!|>?%@`'\"#\n \tab1_.~<", max_size=80))
@example(text="a: &a [1]\nb: [*a, *a]\n")
@example(text="a: " + "[" * 5000 + "]" * 5000)
@example(text="a: " + "9" * 5000)
@example(text="a: 2020-99-99\n")
@example(text="a: !!python/object:os.system x\n")
@example(text="? [1, 2]\n: 3\n")
@example(text="#" * 1_100_000)
@example(text="a: .inf\n")
@example(text="a: !!set {x, y}\n")
def test_any_text(text: str, tmp_path: Path, tally: Tally) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8", errors="replace")
    assert refused_or_read(path, tally)


@quick
@given(content=some.binary(max_size=200))
def test_any_bytes(content: bytes, tmp_path: Path, tally: Tally) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    assert refused_or_read(path, tally)


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "params.yaml")
    for path in (tmp_path / "params.yaml", Path("/dev/zero"), tmp_path):
        with pytest.raises(ParamsError, match="is no regular file: name a text file"):
            schema.read(path)


def test_numbers_beyond_reason_are_refused(tmp_path: Path, tally: Tally) -> None:
    for place, value in {
        ("training", "threads"): 1_000_000,
        ("training", "epochs"): 10**10,
        ("interpolate", "steps"): 10**6,
        ("geodesics", "nodes"): 10**6,
        ("invariance", "transformations", "rotation", "step"): 1e300,
    }.items():
        values = copy.deepcopy(SHIPPED)
        around: Any = values
        for key in place[:-1]:
            around = around[key]
        around[place[-1]] = value
        path = tmp_path / "params.yaml"
        with path.open("w", encoding="utf-8") as file:
            YAML(typ="safe", pure=True).dump(values, file)
        message = refused_or_read(path, tally)
        assert message is not None
        assert f"{'.'.join(place)}: " in message
