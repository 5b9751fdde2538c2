"""Atomic writing of files: a reader sees the old file or the whole new one."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latent_atlas.errors import OutputError

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

PART_BYTES = 2**23  # that are read, converted or written at once
# First bytes of files that stand where others should be, what they are, and what to do.
IMPOSTORS = (
    (rb"version https://git-lfs", "is a Git LFS pointer, not the file: run git lfs pull where it is from"),
    (rb"(\xef\xbb\xbf)?\s*(?i:<!doctype|<html|<\?xml|<!--|<head|<script)", "is a web page: download the file itself"),
    (rb"\x1f\x8b", "is compressed by gzip: unpack it with gunzip"),
    (rb"BZh|\xfd7zXZ|7z\xbc\xaf|\x28\xb5\x2f\xfd|Rar!", "is a compressed archive: unpack it"),
    (rb"\s*[{\[]", "is text (JSON), perhaps an index of files: name the file itself"),
    (rb"(\xef\xbb\xbf)?[\t\n\r\x20-\x7e]+\Z", "is a text, perhaps the answer of a server: get the file itself"),
)


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


def impostor(head: bytes) -> str | None:
    """What a file is that has no numbers or pixels, by its first bytes, with the remedy; None if it may have them."""
    if not head:
        return "is empty: get it again, the download may have failed"
    if head[8:9] == b"{" and not head[7]:  # of safetensors, after the length of its header
        return None
    return next((what for start, what in IMPOSTORS if re.match(start, head)), None)


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


def write_safetensors(path: Path | str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write named tensors and their metadata, some rows at a time; the same content always gives the same bytes."""
    from safetensors.torch import save

    # The library names the types, and gives the order that the format asks for: here of tensors without numbers.
    bare = save({name: tensor.detach().new_empty(0) for name, tensor in tensors.items()})
    entries = json.loads(bare[8:])
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    end = 0
    for name in entries:
        start, end = end, end + tensors[name].nbytes
        shape = list(tensors[name].shape)
        header[name] = {"dtype": entries[name]["dtype"], "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the format asks for data aligned to 8 bytes
    with atomic_write(path) as aside, aside.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in entries:
            file.writelines(parts(tensors[name]))


def parts(tensor: Tensor) -> Iterator[memoryview]:
    """The bytes of a tensor in the order of its entries, some rows at a time."""
    import torch

    tensor = tensor.detach()
    rows = max(1, PART_BYTES * len(tensor) // max(1, tensor.nbytes)) if tensor.ndim else 1
    for part in tensor.split(rows) if tensor.ndim else [tensor]:
        yield part.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
