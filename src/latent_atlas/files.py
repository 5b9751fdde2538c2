"""Files that are written whole or not at all, and whose content is verified when they are read.

A reader sees the old file or the whole new one. Files of tensors carry a checksum of all that is in them.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latent_atlas.errors import FileError, OutputError

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from latent_atlas.errors import LatentAtlasError

CHECKSUM = "payload_sha256"  # the entry of a file's metadata that vouches for all the rest
AGAIN = "delete it and run the workflow again"
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
        _to_disk(aside)
        aside.replace(path)
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror or error} "
            f"(free space or change the permissions of {path.parent}, then run the same command again)"
        ) from error
    finally:
        with suppress(OSError):
            aside.unlink(missing_ok=True)


def _to_disk(path: Path) -> None:
    """Wait until the content of a file has reached the disk: a rename that comes first could leave it empty."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
    """Write a table as Parquet, its pages with checksums; the same version of pyarrow gives the same bytes."""
    with atomic_write(path) as aside:
        table.to_parquet(aside, index=False, engine="pyarrow", write_page_checksum=True)


def read_table(path: Path | str, columns: Collection[str] = ()) -> pd.DataFrame:
    """A table that :func:`write_table` or :func:`write_parquet` wrote. In CSV, empty cells alone are null.

    Parameters
    ----------
    path : Path
        A ``.csv`` or ``.parquet`` file.
    columns : collection of str
        Names that the table must have.

    Raises
    ------
    FileError
        If the file is missing, damaged, or lacks a column.
    """
    import pandas as pd

    path = Path(path)
    try:
        if path.suffix == ".parquet":
            table = pd.read_parquet(path, engine="pyarrow", page_checksum_verification=True)
        else:
            table = pd.read_csv(path, keep_default_na=False, na_values=[""])
    except (OSError, ValueError) as error:  # pyarrow's and pandas' own errors are among these
        raise FileError(f"{path} is not a readable table ({_short(error)}): {AGAIN}") from error
    if lacking := [name for name in columns if name not in table]:
        raise FileError(f"{path} has no column {lacking[0]} (it has {', '.join(map(str, table.columns))}): {AGAIN}")
    return table


def write_safetensors(path: Path | str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write named tensors and their metadata, some rows at a time; the same content always gives the same bytes.

    A checksum of all of it stands in the metadata, which :func:`read_safetensors` verifies.
    """
    from safetensors.torch import save

    # The library names the types, and gives the order that the format asks for: here of tensors without numbers.
    bare = save({name: tensor.detach().new_empty(0) for name, tensor in tensors.items()})
    entries = json.loads(bare[8:])
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name in entries:
        start, end = end, end + tensors[name].nbytes
        shape = list(tensors[name].shape)
        header[name] = {"dtype": entries[name]["dtype"], "shape": shape, "data_offsets": [start, end]}
    checksum = _checksum(header, (part for name in entries for part in parts(tensors[name])))
    header["__metadata__"] = dict(sorted((dict(metadata) | {CHECKSUM: checksum}).items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the format asks for data aligned to 8 bytes
    with atomic_write(path) as aside, aside.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in entries:
            file.writelines(parts(tensors[name]))


def read_safetensors(
    path: Path | str, kind: type[LatentAtlasError] = FileError, names: Collection[str] = ()
) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a file that :func:`write_safetensors` wrote; the tensors are mapped into memory.

    Parameters
    ----------
    path : Path
    kind : type of error
        What is raised.
    names : collection of str
        Tensors that it must have.

    Raises
    ------
    FileError, or ``kind``
        If the file is missing, cut short or changed, or lacks a tensor.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata, tensors = dict(file.metadata() or {}), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        stored = metadata.pop(CHECKSUM, None)
        whole = stored is not None and stored == _checksum_of(Path(path))
    except (OSError, SafetensorError, ValueError) as error:
        raise kind(f"{path} is not a readable safetensors file ({_short(error)}): {AGAIN}") from error
    if stored is None:
        raise kind(f"{path} has no checksum, so that its content cannot be verified: {AGAIN}")
    if not whole:
        raise kind(f"{path} is damaged: its content does not have the checksum that it names: {AGAIN}")
    if lacking := [name for name in names if name not in tensors]:
        raise kind(f"{path} has no tensor {lacking[0]}: {AGAIN}")
    return metadata, tensors


def _checksum_of(path: Path) -> str:
    """The checksum of a safetensors file, which is read part by part, not mapped into memory."""
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        header["__metadata__"].pop(CHECKSUM, None)
        return _checksum(header, iter(lambda: file.read(PART_BYTES), b""))


def _checksum(header: Mapping[str, Any], data: Iterable[bytes | memoryview]) -> str:
    """SHA-256 over the header of a safetensors file, but for the checksum, and its data, in hexadecimal."""
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for part in data:
        digest.update(part)
    return digest.hexdigest()


def _short(error: Exception) -> str:
    """The first line of what an error says."""
    return (str(error).strip() or type(error).__name__).partition("\n")[0][:200]


def parts(tensor: Tensor) -> Iterator[memoryview]:
    """The bytes of a tensor in the order of its entries, some rows at a time."""
    import torch

    tensor = tensor.detach()
    rows = max(1, PART_BYTES * len(tensor) // max(1, tensor.nbytes)) if tensor.ndim else 1
    for part in tensor.split(rows) if tensor.ndim else [tensor]:
        yield part.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
