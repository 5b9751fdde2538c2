"""Where the files of the page come from: the job that made each, its parameters, and its inputs with their checksums.

The Snakefile writes which rules there are into a file that the report reads: see ``origins`` in its common rules.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from latent_atlas.errors import FileError
from latent_atlas.versioning.common import values_at


class Origins:
    """The rules of the files of a page.

    Parameters
    ----------
    rules : mapping
        For each rule ``outputs`` and ``inputs``, patterns of files such as ``results/tangents/{manifold}/columns.png``,
        and ``params``, dotted keys of the parameter file.
    values : mapping
        The parameters.

    Attributes
    ----------
    jobs : dict
        For each job that was asked for, by the name that it has in ``dvc.yaml``: ``rule``; ``params``, the values of
        its keys; ``inputs``, of each its ``file`` and ``md5``, null where the file is not at hand.
    """

    def __init__(self, rules: Mapping[str, Mapping[str, list[str]]], values: Mapping[str, Any]) -> None:
        self.rules, self.values = rules, values
        self.jobs: dict[str, dict[str, Any]] = {}
        self._known: dict[Path, str] = {}

    @classmethod
    def read(cls, path: Path | None, values: Mapping[str, Any]) -> Origins:
        """Of a file that the Snakefile has written; without one, no file has a job.

        Raises
        ------
        FileError
            If the file is missing or no JSON.
        """
        if path is None:
            return cls({}, values)
        try:
            return cls(json.loads(path.read_text(encoding="utf-8")), values)
        except (OSError, ValueError) as error:
            raise FileError(f"{path}: cannot be read ({error}); delete it and run the workflow again") from error

    def job(self, file: str) -> str | None:
        """The name of the job that made a file, which is then in :attr:`jobs`; None where no rule is known."""
        for rule, entry in self.rules.items():
            for pattern in entry["outputs"]:
                if found := re.fullmatch(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(pattern)), file):
                    name = "-".join([rule, *found.groups()])
                    if name not in self.jobs:
                        inputs = [Path(each.format(**found.groupdict())) for each in entry["inputs"]]
                        self.jobs[name] = {
                            "rule": rule,
                            "params": values_at(self.values, *entry["params"]),
                            "inputs": [{"file": each.as_posix(), "md5": self.md5(each)} for each in inputs],
                        }
                    return name
        return None

    def md5(self, path: Path) -> str | None:
        """The checksum of a file; None where it is not at hand."""
        if path not in self._known:
            if not path.is_file():
                return None
            with path.open("rb") as file:
                self._known[path] = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        return self._known[path]
