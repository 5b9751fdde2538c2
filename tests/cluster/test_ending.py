"""How a process ends that does not delete its objects: as Python ends one, but for the time."""

from __future__ import annotations

import gzip
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

HELD = """\
import atexit, gzip, sys, tempfile, threading, time, zipfile
from pathlib import Path

class Held:
    def __del__(self):
        print("deleted")

held = Held()
atexit.register(lambda: print("at exit", file=sys.stderr))
atexit.register(lambda: print("a line at exit"))
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
    "a huge status": "sys.exit(2**70)", "a negative status": "sys.exit(-1)", "a truth value": "sys.exit(True)",
}  # fmt: skip
LEFT_TO_PYTHON = {
    "a sentence": "sys.exit('a sentence')", "an error": "raise ValueError('an error')",
    "an interrupt": "raise KeyboardInterrupt", "a full disk": "sys.stdout = open('/dev/full', 'w'); print('text')",
    "a daemon thread": "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
    "a compressed file": "global open_; open_ = gzip.open('open', 'wt'); open_.write('text')",
    "an archive": "global open_; open_ = zipfile.ZipFile('open', 'w'); open_.writestr('name', 'text')",
    "a temporary file": "global open_; open_ = tempfile.NamedTemporaryFile(prefix='scratch-', dir='.')",
}  # fmt: skip


def run(folder: Path, work: str, program: str, **variables: str) -> tuple[int, str, str]:
    """The exit status and what was said by a program that has work to do."""
    folder.mkdir()
    (folder / "held.py").write_text(f"{HELD}\ndef work():\n    {work}\n", encoding="utf-8")
    (folder / "program.py").write_text(program, encoding="utf-8")
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"} | variables
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=folder, env=plain, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, re.sub("^ .*\n", "", done.stderr, flags=re.MULTILINE)  # but for the frames


OWN = "from latent_atlas.cluster.ending import after; import held; after(held.work)"


@pytest.mark.parametrize("kind", [*KINDS, *LEFT_TO_PYTHON])
def test_is_as_python_ends_it(kind: str, tmp_path: Path) -> None:
    work = (KINDS | LEFT_TO_PYTHON)[kind]
    own, usual = run(tmp_path / "own", work, OWN), run(tmp_path / "python", work, "import held; held.work()")
    assert "at exit" in usual[2]
    assert "deleted" in usual[1]
    assert ("deleted" in own[1]) == (kind in LEFT_TO_PYTHON)
    assert own[0] == usual[0]
    assert own[1].replace("deleted\n", "") == usual[1].replace("deleted\n", "")
    assert own[2] == usual[2]
    for folder in ("own", "python"):
        assert (tmp_path / folder / "text.txt").read_text() == "text"
        assert not [*(tmp_path / folder).glob("scratch-*")]
    if kind == "a compressed file":
        with gzip.open(tmp_path / "own" / "open", "rt") as file:
            assert file.read() == "text"
    if kind == "an archive":
        assert zipfile.ZipFile(tmp_path / "own" / "open").read("name") == b"text"


def test_what_was_registered_before_is_called(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import atexit; atexit.register(print, 'of the site')", "utf-8")
    status, said, _ = run(tmp_path / "own", "pass", OWN, PYTHONPATH=str(tmp_path))
    assert (status, "of the site" in said, "deleted" in said) == (0, True, True)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("try:\n    after(sys.exit)\nexcept SystemExit:\n    raise RuntimeError", 1),
        ("import host\nhost.call()\nsys.exit(4)", 4),
    ],
)
def test_of_another_program_is_left_to_it(host: str, status: int, tmp_path: Path) -> None:
    (tmp_path / "host.py").write_text("from latent_atlas.cluster.ending import after\ndef call(): after(int)", "utf-8")
    program = tmp_path / "program.py"
    program.write_text(f"import sys\nfrom latent_atlas.cluster.ending import after\n{host}\n", encoding="utf-8")
    assert subprocess.run([sys.executable, program], capture_output=True, check=False).returncode == status
