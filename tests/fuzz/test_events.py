"""Events in a small study: whatever has happened, a plain run ends well, with the outputs of a fresh one."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fuzzing import EXAMPLES, Change, Tally, damage, damaged
from hypothesis import HealthCheck, settings
from hypothesis import strategies as some
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from repository import Repository, after_a_run

pytestmark = pytest.mark.engines

WHICH = some.integers(0, 10**6)  # of a sorted list, round and round
EDITS: dict[str, Callable[[dict[str, Any]], None]] = {
    "example": lambda values: values["tangents"].update(example="one"),
    "shown": lambda values: values["reconstruct"].update(shown=5),
    "step": lambda values: values["invariance"]["transformations"]["shift_x"].update(step=0.5),
    "model": lambda values: values["models"].update(
        fc3={"architecture": "fully_connected", "latent_dim": 3, "options": {"widths": [16, 8]}}
    ),
}
ACCOUNTS = (
    ".latent-atlas/*", ".latent-atlas/*/*", "results/records.csv", "logs/*", "logs/*/*", ".snakemake/metadata/*",
    ".dvc/tmp/*",
)  # fmt: skip


class Events(RuleBasedStateMachine):
    """What people, engines and disks do to a study."""

    fresh: Repository
    known: dict[str, dict[str, bytes]]
    tally: Tally

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="events-"))
        self.study = self.fresh.copy(self.folder / "study")
        self.edits: set[str] = set()
        self.log: list[Any] = []

    def files(self, *patterns: str) -> list[Path]:
        return sorted(path for pattern in patterns for path in self.study.root.glob(pattern) if path.is_file())

    def outputs(self) -> list[Path]:
        return [path for path in self.files("results/**/*", "data/*") if path.name != "records.csv"]

    def write(self) -> None:
        shutil.copy(self.fresh.root / "params.yaml", self.study.root / "params.yaml")
        for name in sorted(self.edits):
            self.study.edit_params(EDITS[name])

    @rule()
    def run(self) -> None:
        done = self.study.snakemake(check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]

    @rule()
    def repro(self) -> None:
        for command in (("latent-atlas", "pipeline"), ("dvc", "repro")):
            done = self.study.run(*command, check=False)
            assert "Traceback" not in done.stdout + done.stderr

    @rule(name=some.sampled_from(sorted(EDITS)))
    def edit(self, name: str) -> None:
        self.edits ^= {name}  # or put it back
        self.write()

    @rule(which=WHICH)
    def delete(self, which: int) -> None:
        if files := self.outputs():
            files[which % len(files)].unlink()

    @rule(which=WHICH, changes=damage(2))
    def damage_output(self, which: int, changes: list[Change]) -> None:
        if files := self.outputs():
            path = files[which % len(files)]
            path.write_bytes(damaged(path.read_bytes(), changes))

    @rule(which=WHICH, changes=damage(2))
    def damage_account(self, which: int, changes: list[Change]) -> None:
        if files := self.files(*ACCOUNTS):
            path = files[which % len(files)]
            path.write_bytes(damaged(path.read_bytes(), changes))

    @rule(which=WHICH, back=some.booleans())
    def touch(self, which: int, back: bool) -> None:
        if files := [*self.outputs(), *self.files("src/**/*.py")]:
            now = time.time() - 10**6 * back
            os.utime(files[which % len(files)], (now, now))

    @rule(after=some.floats(0.2, 6), how=some.sampled_from([signal.SIGKILL, signal.SIGINT, signal.SIGTERM]))
    def kill(self, after: float, how: signal.Signals) -> None:
        process = self.study.start("snakemake", "--cores", "2")
        time.sleep(after)
        os.killpg(process.pid, how)
        process.wait()
        time.sleep(0.3)
        if how == signal.SIGKILL:  # as it says, Snakemake's lock is left if it held one
            self.study.run("snakemake", "--unlock", check=False)

    def teardown(self) -> None:
        try:
            done = self.study.snakemake(check=False)
            said = done.stdout[-3000:] + done.stderr[-3000:]
            assert done.returncode == 0, said
            found, wanted = self.study.contents(), self.wanted()
            assert found.keys() == wanted.keys()
            assert [name for name in wanted if found[name] != wanted[name]] == [], said
            self.tally.figures["cases"] += 1
            self.tally.figures["equal"] += 1
        finally:
            shutil.rmtree(self.folder)

    def wanted(self) -> dict[str, bytes]:
        """The outputs of a fresh run with the same parameters."""
        key = json.dumps(sorted(self.edits))
        if key not in self.known:
            repository = self.fresh.copy(self.folder / "fresh")
            for made in ("results", "logs", "data", ".latent-atlas", ".snakemake", "dvc.lock", "dvc.yaml"):
                path = repository.root / made
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            shutil.copy(self.study.root / "params.yaml", repository.root / "params.yaml")
            repository.snakemake()
            self.known[key] = repository.contents()
        return self.known[key]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A repository after one run, committed."""
    return after_a_run(tmp_path_factory)


def test_events(finished: Repository, tally: Tally) -> None:
    start = finished.contents()

    class Here(Events):
        fresh, known = finished, {"[]": start}

    Here.tally = tally
    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=max(2, EXAMPLES // 40), stateful_step_count=12 if EXAMPLES else 4, deadline=None,
            derandomize=not EXAMPLES, suppress_health_check=list(HealthCheck), print_blob=True,
        ),
    )  # fmt: skip


def test_records_of_snakemake_that_are_none(finished: Repository, tmp_path: Path) -> None:
    study, start = finished.copy(tmp_path / "study"), finished.contents()
    records = sorted((study.root / ".snakemake" / "metadata").iterdir())
    contents = (b"\x13\x16\xba\xf6", b"[1]", b'{"starttime": "never"}', b"[" * 10**5, b"", b"7")
    assert len(records) >= len(contents)
    for record, content in zip(records, itertools.cycle(contents), strict=False):
        record.write_bytes(content)
    shutil.rmtree(study.root / "results" / "reconstruct")
    shutil.rmtree(study.root / ".dvc" / "cache", ignore_errors=True)
    done = study.snakemake()
    assert "is no record" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert study.contents() == start
