"""Files that are written whole or not at all, and whose content is verified when they are read.

A reader sees the old file or the whole new one. Files of tensors carry a checksum of all that is in them. The tables of
a folder have theirs in a file beside them, a Data Package of https://specs.frictionlessdata.io.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from latent_atlas.errors import FileError, OutputError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from torch import Tensor

    from latent_atlas.errors import LatentAtlasError

A = TypeVar("A", "Tensor", "np.ndarray")
CHECKSUM = "payload_sha256"  # the entry of a file's metadata that vouches for all the rest
PACKAGE = "datapackage.json"  # describes the tables of a folder, and vouches for them
# What a package calls a column, by what pandas infers of it; "any" for all others, such as those of nothing but nulls.
TYPES = {"boolean": "boolean", "integer": "integer", "floating": "number", "mixed-integer-float": "number",
         "string": "string"}  # fmt: skip
READ_AS = {"string": "str", "boolean": "boolean", "integer": "Int64", "number": "float64"}
UNITS = {"deg": "degree", "db": "decibel", "bytes": "byte", "mse": "squared pixel value, pixels from 0 to 1"}  # by word
SEAL = "sha256"  # the same in a line of JSON
AGAIN = "delete it and run the workflow again"
PART_BYTES = 2**23  # that are read, converted or written at once
# Types of numbers in safetensors, and what numpy calls them; it has no bfloat16 and no floats of 8 bits.
NUMBERS = {"BOOL": "?", "U8": "<u1", "I8": "<i1", "I16": "<i2", "I32": "<i4", "I64": "<i8", "F16": "<f2", "F32": "<f4",
           "F64": "<f8"}  # fmt: skip
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
    the temporary file is deleted and an older ``path`` is unchanged. What a process that was killed has left of an
    earlier attempt is deleted.

    Raises
    ------
    OutputError
        If the folder cannot be created or written to, or the disk is full.
    """
    path = Path(path)
    if not path.is_dir():  # which says so itself
        check_regular(path, OutputError)  # else a device would be replaced by the file
    aside = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in left_behind(path.parent, f".{path.stem}.", re.escape(f".part{path.suffix}")):
            left.unlink(missing_ok=True)
        yield aside
        _to_disk(aside)
        aside.replace(path)
    except BaseException as error:
        with suppress(OSError):
            aside.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OutputError(unwritable(path, error)) from error
        raise


def unwritable(path: Path, error: OSError) -> str:
    """What to say of a file that could not be written: why, and what to do."""
    return (
        f"cannot write {path}: {error.strerror or error} "
        f"(free space or change the permissions of {path.parent}, then run the same command again)"
    )


def left_behind(folder: Path, before: str, after: str) -> Iterator[Path]:
    """Temporary files or folders named ``before``, the number of a process, ``after`` (a pattern): of ended processes.

    Processes of other machines are unknown here: what one of them has left stays while its number is in use.
    """
    name = re.compile(rf"{re.escape(before)}(\d{{1,10}}){after}")
    for path in folder.iterdir():
        if (found := name.fullmatch(path.name)) and not _runs(int(found[1])):
            yield path


def _runs(process: int) -> bool:
    """Whether a process is at work; one that has ended and that nobody has asked about (a zombie) is not."""
    try:
        os.kill(process, 0)
        return (
            Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2][1:2] != "Z"
        )
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's, or a system without /proc
        return True


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


def check_archive(path: Path | str) -> None:
    """Compare the members of an archive of torch with its headers and checksums, which torch does not.

    Members without a checksum are not read: torch can write them (``torch.serialization.set_crc32_options``). It
    compresses none, and where one is said to be, it gives numbers that are in no file.

    Raises
    ------
    zipfile.BadZipFile
        If one does not agree.
    """
    import zipfile  # here, since few processes need it

    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if (announced := sum(member.file_size for member in members)) > (held := Path(path).stat().st_size):
            raise zipfile.BadZipFile(f"it announces {announced:,} bytes and holds {held:,}")
        for member in members:
            if member.compress_type != zipfile.ZIP_STORED:
                raise zipfile.BadZipFile(
                    f"{member.filename} is compressed, as torch writes none: save it by torch.save"
                )
            with archive.open(member) as file:
                while member.CRC and file.read(PART_BYTES):  # to its end, where its checksum is compared
                    pass


def kind_of(path: Path | str) -> str | None:
    """What stands at a path: "a file", "a folder", "a named pipe", "a socket" or "a device"; None if nothing does."""
    kinds = {stat.S_IFREG: "a file", stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
    try:
        return kinds.get(stat.S_IFMT(Path(path).stat().st_mode), "a device")
    except (OSError, ValueError):
        return None  # whoever reads it says so


def check_regular(path: Path | str, kind: type[LatentAtlasError] = FileError) -> None:
    """Raise ``kind`` if something else than a file stands at a path, such as a pipe, which would be read for ever."""
    if (found := kind_of(path)) not in (None, "a file"):
        raise kind(f"{path} is {found}, not a file: name a file")


def write_text(path: Path | str, text: str) -> None:
    """Write ``text`` as UTF-8."""
    with atomic_write(path) as aside:
        aside.write_text(text, encoding="utf-8")


def sealed(values: Mapping[str, Any]) -> str:
    """Values as one line of JSON, with a checksum of them that :func:`unsealed` verifies."""
    return json.dumps({**values, SEAL: _seal(values)})


def unsealed(text: str) -> dict[str, Any]:
    """The values that :func:`sealed` was given.

    Raises
    ------
    ValueError
        If the text is no such JSON, or its checksum is missing or another.
    """
    try:
        values = json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    if not isinstance(values, dict):
        raise ValueError("it holds no named values")
    if (stored := values.pop(SEAL, None)) is None:
        raise ValueError("it has no checksum")
    if stored != _seal(values):
        raise ValueError("its content does not have the checksum that it names")
    return values


def _seal(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def write_table(path: Path | str, table: pd.DataFrame) -> None:
    """Write a table as CSV, floats with 12 significant digits."""
    write_text(path, table.to_csv(index=False, float_format="%.12g", lineterminator="\n"))


def write_tables(folder: Path | str, tables: Mapping[str, pd.DataFrame]) -> None:
    """Write the tables of one job, and after them ``datapackage.json``, by which :func:`read_table` verifies them.

    The same tables give the same bytes. A folder has the tables of one job only: the file names no others.

    Parameters
    ----------
    folder : Path
    tables : mapping of str to DataFrame
        By the names of the files: those that end in ``.parquet`` are written as Parquet, all others as CSV, floats with
        12 significant digits.
    """
    folder = Path(folder)
    for file, table in tables.items():
        if file.endswith(".parquet"):
            with atomic_write(folder / file) as aside:
                table.to_parquet(aside, index=False, engine="pyarrow", write_page_checksum=True)
        else:
            write_table(folder / file, table)
    resources = [_resource(folder / file, table) for file, table in tables.items()]
    write_text(folder / PACKAGE, _package({"profile": "tabular-data-package", "resources": resources}))


def _resource(path: Path, table: pd.DataFrame) -> dict[str, Any]:
    """What a package says of a table."""
    from pandas.api.types import infer_dtype

    fields = []
    for name, column in table.items():
        kind = "string" if column.dtype == "str" else infer_dtype(column, skipna=True)
        units = [UNITS[word] for word in str(name).split("_") if word in UNITS]
        fields.append({"name": str(name), "type": TYPES.get(kind, "any")} | ({"unit": units[-1]} if units else {}))
    content = path.read_bytes()
    return {
        "profile": "tabular-data-resource",
        "name": path.stem.lower(),
        "path": path.name,
        "format": path.suffix[1:],
        "bytes": len(content),
        "hash": _sha256(content),
        "schema": {"fields": fields},
    }


def _package(content: dict[str, Any]) -> str:
    """The text of a package, with a checksum of all the rest of it."""
    return json.dumps(content | {"hash": _sha256(json.dumps(content).encode())}, indent=1) + "\n"


def _sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _content(path: Path) -> bytes:
    check_regular(path)
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise FileError(f"{path} is missing: run the workflow again") from error
    except OSError as error:
        raise FileError(f"{path} is damaged: it cannot be read ({error.strerror or error}): {AGAIN}") from error


def _resources(path: Path) -> dict[str, dict[str, Any]]:
    """What a package says of its tables, by the names of the files."""
    text = _content(path)
    try:
        content = json.loads(text)
        del content["hash"]
        whole = text == _package(content).encode()  # which also refuses other blanks or another order
        found = {resource["path"]: resource for resource in content["resources"]}
    except (ValueError, KeyError, TypeError) as error:
        raise FileError(f"{path} is damaged: it cannot be read ({_short(error)}): {AGAIN}") from error
    if not whole:
        raise FileError(f"{path} is damaged: its content does not have the checksum that it names: {AGAIN}")
    return found


def read_table(path: Path | str, columns: Collection[str] = ()) -> pd.DataFrame:
    """A table that :func:`write_tables` wrote, its content verified by the checksum in ``datapackage.json`` beside it.

    Columns of CSV have the types that are named there, also where they are empty; empty cells alone are null.

    Parameters
    ----------
    path : Path
        A ``.csv`` or ``.parquet`` file.
    columns : collection of str
        Names that the table must have.

    Raises
    ------
    FileError
        If the file or ``datapackage.json`` is missing or damaged, if that does not name the file, or if a column is
        lacking.
    """
    import pandas as pd

    path = Path(path)
    content = _content(path)
    resource = _resources(path.with_name(PACKAGE)).get(path.name)
    if resource is None:
        raise FileError(f"{path} is damaged: {PACKAGE} beside it does not name it: {AGAIN}")
    if _sha256(content) != resource["hash"]:
        raise FileError(f"{path} is damaged: its content does not have the checksum in {PACKAGE} beside it: {AGAIN}")
    fields = {field["name"]: READ_AS.get(field["type"]) for field in resource["schema"]["fields"]}
    try:
        if path.suffix == ".parquet":
            table = pd.read_parquet(io.BytesIO(content), engine="pyarrow")
        elif not fields:
            table = pd.DataFrame()
        else:
            kinds = {name: kind for name, kind in fields.items() if kind}
            table = pd.read_csv(io.BytesIO(content), keep_default_na=False, na_values=[""], dtype=kinds)
            full = [name for name, kind in kinds.items() if kind in ("Int64", "boolean") and table[name].notna().all()]
            table = table.astype({name: "int64" if kinds[name] == "Int64" else "bool" for name in full})
    except (OSError, ValueError, KeyError) as error:  # pyarrow's and pandas' own errors are among these
        raise FileError(f"{path} is damaged: it is not a readable table ({_short(error)}): {AGAIN}") from error
    if list(table.columns) != list(fields):
        raise FileError(f"{path} is damaged: its columns are not those in {PACKAGE} beside it: {AGAIN}")
    if lacking := [name for name in columns if name not in fields]:
        raise FileError(f"{path} is damaged: it has no column {lacking[0]} (but {', '.join(fields)}): {AGAIN}")
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
    path: Path | str, kind: type[LatentAtlasError] = FileError, needed: Mapping[str, str] | None = None
) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a file that :func:`write_safetensors` wrote; the tensors are mapped into memory.

    Parameters
    ----------
    path : Path
    kind : type of error
        What is raised.
    needed : mapping of str to str, optional
        Tensors that it must have, each with its type and the sizes of its dimensions, of which any may be a pattern:
        ``float32 * 3 28 28``, ``float* 0``.

    Raises
    ------
    FileError, or ``kind``
        If the file is missing, cut short or changed, or lacks a tensor of the type and shape that is needed.
    """
    from safetensors import safe_open

    def mapped(path: Path) -> dict[str, Tensor]:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118

    return _verified(Path(path), kind, needed or {}, mapped)


def read_arrays(
    path: Path | str, kind: type[LatentAtlasError] = FileError, needed: Mapping[str, str] | None = None
) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """As :func:`read_safetensors`, as arrays of numpy: for what only shows the numbers, without the import of torch."""
    import numpy as np
    from safetensors import safe_open

    def mapped(path: Path) -> dict[str, np.ndarray]:
        with safe_open(path, framework="np") as opened, path.open("rb") as file:
            names = list(opened.keys())
            header, start = _header(file)
        found = {}
        for name in names:
            entry = header[name]
            kind, shape = np.dtype(NUMBERS[entry["dtype"]]), tuple(entry["shape"])
            begin = start + entry["data_offsets"][0]
            found[name] = np.zeros(shape, kind) if 0 in shape else np.asarray(np.memmap(path, kind, "c", begin, shape))
        return found

    return _verified(Path(path), kind, needed or {}, mapped)


def _verified(
    path: Path, kind: type[LatentAtlasError], needed: Mapping[str, str], mapped: Callable[[Path], dict[str, A]]
) -> tuple[dict[str, str], dict[str, A]]:
    """Metadata and tensors of a file, its header checked by the library, its content by its checksum."""
    from safetensors import SafetensorError, safe_open

    check_regular(path, kind)
    try:
        with safe_open(path, framework="np") as file:
            metadata = dict(file.metadata() or {})
        tensors = mapped(path)
        stored = metadata.pop(CHECKSUM, None)
        whole = stored is not None and stored == _checksum_of(path)
    except (OSError, SafetensorError, ValueError, KeyError, RecursionError) as error:
        raise kind(f"{path} is not a readable safetensors file ({_short(error)}): {AGAIN}") from error
    if stored is None:
        raise kind(f"{path} has no checksum, so that its content cannot be verified: {AGAIN}")
    if not whole:
        raise kind(f"{path} is damaged: its content does not have the checksum that it names: {AGAIN}")
    check_tensors(path, tensors, needed, kind)
    return metadata, tensors


def check_tensors(
    path: Path | str,
    tensors: Mapping[str, Tensor | np.ndarray],
    needed: Mapping[str, str],
    kind: type[LatentAtlasError] = FileError,
) -> None:
    """Refuse tensors of a file where one is lacking, or of another type or shape: see :func:`read_safetensors`."""
    for name, pattern in needed.items():
        if name not in tensors:
            raise kind(f"{path} has no tensor {name}: {AGAIN}")
        found = [str(tensors[name].dtype).removeprefix("torch."), *map(str, tensors[name].shape)]
        wanted = pattern.split()
        if len(found) != len(wanted) or not all(map(fnmatchcase, found, wanted)):
            raise kind(f"{path} is damaged: its tensor {name} is {' '.join(found)} where {pattern} is needed: {AGAIN}")


def _checksum_of(path: Path) -> str:
    """The checksum of a safetensors file, which is read part by part, not mapped into memory."""
    with path.open("rb") as file:
        header, _ = _header(file)
        header["__metadata__"].pop(CHECKSUM, None)
        return _checksum(header, iter(lambda: file.read(PART_BYTES), b""))


def _header(file: BinaryIO) -> tuple[dict[str, Any], int]:
    """The header of a safetensors file, and where its data begin."""
    length = int.from_bytes(file.read(8), "little")
    return json.loads(file.read(length)), 8 + length


def _checksum(header: Mapping[str, Any], data: Iterable[bytes | memoryview]) -> str:
    """SHA-256 over the header of a safetensors file, but for the checksum, and its data, in hexadecimal."""
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for part in data:
        digest.update(part)
    return digest.hexdigest()


def _short(error: Exception) -> str:
    """The first line of what an error says."""
    return (str(error).strip() or type(error).__name__).partition("\n")[0][:200]


def parts(tensor: Tensor | np.ndarray) -> Iterator[memoryview]:
    """The bytes of a tensor or an array in the order of its entries, some rows at a time."""
    rows = max(1, PART_BYTES * len(tensor) // max(1, tensor.nbytes)) if tensor.ndim else 1
    for start in range(0, len(tensor) if tensor.ndim else 1, rows):
        yield _bytes(tensor[start : start + rows] if tensor.ndim else tensor)


def _bytes(tensor: Tensor | np.ndarray) -> memoryview:
    import numpy as np

    if isinstance(tensor, np.ndarray):
        return np.ascontiguousarray(tensor).reshape(-1).view(np.uint8).data
    import torch

    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
