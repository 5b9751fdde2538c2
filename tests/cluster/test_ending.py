"""How a process ends that does not delete its objects: as Python ends one, but for the time."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

HELD = """\
import atexit, sys, tempfile, threading, time
from pathlib import Path

class Held:
    def __del__(self):
        print("deleted")

held = Held()
atexit.register(lambda: print("at exit", file=sys.stderr))
unwritten = open("text.txt", "w")
unwritten.write("text")
scratch = tempfile.TemporaryDirectory(prefix="scratch-", dir=".")
def later():
    time.sleep(0.2)
    print("a thread")
threading.Thread(target=later).start()
sys.stdout.write("a line without its end")
"""
KINDS = {
    "returns": "pass", "no status": "sys.exit()", "a status": "sys.exit(3)", "a large status": "sys.exit(259)",
    "a negative status": "sys.exit(-1)", "a truth value": "sys.exit(True)", "a sentence": "sys.exit('a sentence')",
    "an error": "raise ValueError('an error')", "an interrupt": "raise KeyboardInterrupt",
    "a full disk": "sys.stdout = open('/dev/full', 'w'); print('text', file=sys.stdout)",
}  # fmt: skip


def run(folder: Path, kind: str, program: str) -> tuple[int, str, str]:
    """The exit status and what was said by a program that has work to do."""
    folder.mkdir()
    (folder / "held.py").write_text(f"{HELD}\ndef work():\n    {KINDS[kind]}\n", encoding="utf-8")
    (folder / "program.py").write_text(program, encoding="utf-8")
    done = subprocess.run([sys.executable, "program.py"], cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, re.sub("^ .*\n", "", done.stderr, flags=re.MULTILINE)  # but for the frames


@pytest.mark.parametrize("kind", KINDS)
def test_is_as_python_ends_it(kind: str, tmp_path: Path) -> None:
    own, usual = (
        run(tmp_path / "own", kind, "from latent_atlas.cluster.ending import after; import held; after(held.work)"),
        run(tmp_path / "python", kind, "import held; held.work()"),
    )
    assert "at exit" in usual[2]
    assert "deleted" in usual[1]
    left_to_python = kind in ("a sentence", "an error", "an interrupt", "a full disk")
    assert ("deleted" in own[1]) == left_to_python
    assert own[0] == usual[0]
    assert own[1].replace("deleted\n", "") == usual[1].replace("deleted\n", "")
    assert own[2] == usual[2]
    for folder in ("own", "python"):
        assert (tmp_path / folder / "text.txt").read_text() == "text"
        assert not [*(tmp_path / folder).glob("scratch-*")]
