"""Atomic writing of files: a reader sees the old file or the whole new one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from latent_atlas.errors import OutputError

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor


@contextmanager
def atomic_write(path: Path | str) -> Iterator[Path]:
    """Give a temporary name beside ``path``; rename it to ``path`` when the block succeeds.

    The temporary name has the suffix of ``path``, from which picture libraries choose the format. If the block fails,
    the temporary file is deleted and an older ``path`` is unchanged.

    Raises
    ------
    OutputError
        If the folder cannot be created or written to, or the disk is full.
    """
    path = Path(path)
    aside = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield aside
        aside.replace(path)
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror or error} "
            f"(free space or change the permissions of {path.parent}, then run the same command again)"
        ) from error
    finally:
        with suppress(OSError):
            aside.unlink(missing_ok=True)


def write_text(path: Path | str, text: str) -> None:
    """Write ``text`` as UTF-8."""
    with atomic_write(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_table(path: Path | str, table: pd.DataFrame) -> None:
    """Write a table as CSV, floats with 12 significant digits."""
    write_text(path, table.to_csv(index=False, float_format="%.12g", lineterminator="\n"))


def write_parquet(path: Path | str, table: pd.DataFrame) -> None:
    """Write a table as Parquet; the same table by the same version of pyarrow gives the same bytes."""
    with atomic_write(path) as aside:
        table.to_parquet(aside, index=False, engine="pyarrow")


def write_safetensors(path: Path | str, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write named tensors and their metadata, the same content always as the same bytes."""
    from safetensors.torch import save

    payload = _canonical(save(separate(tensors), metadata))
    with atomic_write(path) as aside:
        aside.write_bytes(payload)


def separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors on the CPU, each with memory of its own, as the format asks: tied weights are copied."""
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        own = tensor.detach().cpu().contiguous()
        found[name] = own.clone() if own.untyped_storage().data_ptr() in seen else own
        seen.add(own.untyped_storage().data_ptr())
    return found


def _canonical(payload: bytes) -> bytes:
    """Sort the keys of a safetensors header, whose metadata comes in the order of a hash map."""
    import json

    size = int.from_bytes(payload[:8], "little")
    header = json.loads(payload[8 : 8 + size])
    metadata = header.pop("__metadata__", {})
    ordered = {"__metadata__": dict(sorted(metadata.items())), **header}
    text = json.dumps(ordered, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the format asks for data aligned to 8 bytes
    return len(text).to_bytes(8, "little") + text + payload[8 + size :]
