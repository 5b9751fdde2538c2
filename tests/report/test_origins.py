"""Which job made a file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from latent_atlas.errors import FileError
from latent_atlas.report.origins import Origins

RULES = {
    "whole": {"outputs": ["r/a.csv"], "inputs": ["in.csv"], "params": ["x.y", "gone"]},
    "each": {"outputs": ["r/{manifold}/b.png"], "inputs": ["{manifold}.bin", "in.csv"], "params": []},
}


def test_a_file_belongs_to_the_job_of_its_rule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in.csv").write_text("1")
    origins = Origins(RULES, {"x": {"y": 3}})
    assert origins.job("r/a.csv") == "whole"
    assert origins.job("r/m1/b.png") == "each-m1"
    assert origins.job("r/m1/n/b.png") is origins.job("r/aXcsv") is None
    checksum = hashlib.md5(b"1", usedforsecurity=False).hexdigest()
    assert origins.jobs == {
        "whole": {"rule": "whole", "params": {"x.y": 3, "gone": None}, "inputs": [{"file": "in.csv", "md5": checksum}]},
        "each-m1": {
            "rule": "each",
            "params": {},
            "inputs": [{"file": "m1.bin", "md5": None}, {"file": "in.csv", "md5": checksum}],
        },
    }


def test_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "origins.json"
    path.write_text(json.dumps(RULES))
    assert Origins.read(path, {}).job("r/a.csv") == "whole"
    assert Origins.read(None, {}).job("r/a.csv") is None
    path.write_text("{")
    with pytest.raises(FileError, match=r"origins.json: cannot be read .* delete it"):
        Origins.read(path, {})
