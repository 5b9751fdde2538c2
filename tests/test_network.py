"""No stage needs a network: only fetch asks for one, and only for datasets that are not there yet.

And none writes down what its environment holds.
"""

from __future__ import annotations

import sys
import uuid
from pathlib import Path

import pytest
from repository import make_small
from support import ROOT, Study, quoted, sealed


@pytest.mark.engines
def test_whole_study_without_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = uuid.uuid4().hex
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    study = Study(tmp_path)  # of the digits, which come with scikit-learn
    make_small(study.values)
    study.write()
    command = quoted(sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--cores", 2)
    done = sealed(f"PATH={quoted(Path(sys.executable).parent)}:$PATH {command}", study.folder, "--mount", "--net")
    assert done.returncode == 0, done.stderr[-2000:]
    assert (study.folder / "results" / "report" / "index.html").exists()
    assert (study.folder / "results" / "report" / "explorer.html").exists()
    files = [path for path in study.folder.rglob("*") if path.is_file()]
    assert {"logs", "results", ".snakemake"} <= {path.relative_to(study.folder).parts[0] for path in files}
    assert not [path for path in files if secret.encode() in path.read_bytes()]


def test_there_is_none_in_such_a_test(tmp_path: Path) -> None:
    script = "import socket; socket.create_connection(('127.0.0.1', 9), timeout=1)"
    done = sealed(quoted(sys.executable, "-c", script), tmp_path, "--mount", "--net")
    assert "Network is unreachable" in done.stderr
