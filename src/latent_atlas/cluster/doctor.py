"""doctor: whether this site is ready for a run, and what to change."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from latent_atlas.errors import LatentAtlasError

NEEDED_GB = 3  # the dataset, results and DVC's copy of them, with room to spare
SLOW_MS = 50  # a file made, renamed and seen again; more makes a thousand small outputs a matter of minutes
TIMEOUT_S = 180

GOOD, NOTE, BAD = "ok", "note", "PROBLEM"


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes
    ----------
    subject : str
    verdict : {"ok", "note", "PROBLEM"}
    message : str
        What is so.
    remedy : str
        What to change; empty where nothing needs to be.
    """

    subject: str
    verdict: str
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        line = f"{self.verdict:>7}  {self.subject}: {self.message}"
        return f"{line}\n         -> {self.remedy}" if self.remedy else line


@click.command()
@click.option("--profile", type=click.Path(file_okay=False, path_type=Path),
              help="The Snakemake profile that will be used, such as profiles/slurm.")  # fmt: skip
@click.option("--on-nodes", is_flag=True, help="Also run a short job in each partition of the profile.")
@click.option("--probe", is_flag=True, hidden=True)
def doctor(profile: Path | None, on_nodes: bool, probe: bool) -> None:
    """Check this site before the first run, and say what to change.

    Nothing is computed and nothing is submitted, but with --on-nodes. Fails if there is a problem.
    """
    if probe:
        click.echo(json.dumps(_here()))
        return
    if not Path("Snakefile").is_file():
        raise click.ClickException("this folder has no Snakefile: run it in the project's folder")
    from latent_atlas.study import schema as config

    try:
        params = config.load("params.yaml")
    except LatentAtlasError as error:
        raise click.ClickException(str(error)) from error
    settings = _read(profile)
    checks: list[Callable[[], Iterator[Finding]]] = [
        tools,
        lambda: devices(settings, params),
        lambda: dataset(params),
        remote,
        lambda: file_system(Path.cwd()),
        lambda: scheduler(profile, settings),
    ]
    if on_nodes:
        checks.append(lambda: nodes(settings))
    problems = 0
    for check in checks:
        for finding in check():
            click.echo(finding)
            problems += finding.verdict == BAD
    click.echo(f"{problems} problem{'s' * (problems != 1)}" if problems else "ready")
    sys.exit(1 if problems else 0)


def tools() -> Iterator[Finding]:
    """The programs and versions that a run needs."""
    from latent_atlas.versioning.engine import TESTED_VERSIONS

    found = version("snakemake")
    if found in TESTED_VERSIONS:
        yield Finding("Snakemake", GOOD, found)
    else:
        yield Finding("Snakemake", BAD, f"{found}, but {TESTED_VERSIONS[0]} was tested",
                      f"pip install snakemake=={TESTED_VERSIONS[0]}")  # fmt: skip
    if shutil.which("git") is None:
        yield Finding("git", BAD, "is not installed", "install it: DVC versions results beside git's revisions")


def devices(settings: dict[str, Any], params: Any) -> Iterator[Finding]:
    """Whether torch sees the GPUs that are here."""
    here = _here()
    driver = here["driver"]
    build = f"torch {here['torch']} ({'CUDA ' + here['cuda'] if here['cuda'] else 'built without CUDA'})"
    if here["gpus"]:
        yield Finding("GPU", GOOD, f"{build} computes on {', '.join(here['gpus'])}")
    elif driver and not here["cuda"]:
        yield Finding("GPU", BAD, f"the driver {driver} is here, but {build}",
                      "install a torch with CUDA (pip install torch, without the CPU index)")  # fmt: skip
    elif driver:
        yield Finding("GPU", BAD, f"{build} finds no GPU under driver {driver}: {here['trouble']}",
                      "update the driver, install a torch for an older CUDA, or free CUDA_VISIBLE_DEVICES")  # fmt: skip
    elif settings.get("executor", "local") == "local":
        wish = params.training.device
        verdict = BAD if wish.startswith("cuda") else NOTE
        remedy = "set training.device: auto in params.yaml" if verdict == BAD else ""
        yield Finding("GPU", verdict, f"none here; {build} trains on the CPU", remedy)
    else:
        yield Finding("GPU", NOTE, f"none on this machine; {build}. Nodes may differ: --on-nodes asks them")


def dataset(params: Any) -> Iterator[Finding]:
    """Whether the dataset is here or can be had."""
    wish = params.dataset
    path = Path("data/images.safetensors")
    if path.exists():
        trouble = _wrong_images(path, wish.name)
        if trouble:
            yield Finding("dataset", BAD, f"{path} {trouble}", f"delete it; fetch will get {wish.name} again")
        else:
            yield Finding("dataset", GOOD, f"{path} holds {wish.name}")
        return
    if wish.folder is not None:
        folder = Path(wish.folder).expanduser()
        if folder.is_dir():
            yield Finding("dataset", GOOD, f"{folder} is here; fetch will verify its content")
        else:
            yield Finding("dataset", BAD, f"there is no folder {folder}", "correct dataset.folder in params.yaml")
        return
    if wish.name == "digits":
        yield Finding("dataset", GOOD, "digits come with scikit-learn")
        return
    from latent_atlas.data import torchvision_import

    kind = getattr(torchvision_import.datasets(), wish.name)
    urls = [mirror + kind.resources[0][0] for mirror in getattr(kind, "mirrors", [])] or [kind.url]
    answers = {url: _answer(url) for url in urls}
    for url, answer in answers.items():
        if answer is None:
            yield Finding("dataset", GOOD, f"{url} answers")
            return
    tried = "; ".join(f"{url}: {answer}" for url, answer in answers.items())
    if wish.name == "FashionMNIST" and shutil.which("apt-get") and shutil.which("dpkg-deb"):
        yield Finding("dataset", NOTE, f"no mirror answers ({tried}); fetch will try Debian's package")
    else:
        yield Finding("dataset", BAD, f"no mirror answers ({tried})",
                      "bring its files here and name their folder as dataset.folder in params.yaml")  # fmt: skip


def _wrong_images(path: Path, name: str) -> str:
    """Why a file is not the images of a dataset; empty if it is. All of it is read, to compare its checksum."""
    from safetensors import safe_open

    from latent_atlas.data.images import Images

    try:
        images = Images.load(path)
        with safe_open(path, framework="pt") as file:
            stored = file.metadata()["sha256"]
    except (LatentAtlasError, KeyError, ValueError):
        return "is not a readable file of images"
    if images.name != name:
        return f"holds {images.name}, but params.yaml names {name}"
    return "" if images.checksum == stored else "is damaged: its checksum is not the one it states"


def remote() -> Iterator[Finding]:
    """Whether results can be pushed to DVC's default remote."""
    from latent_atlas.versioning.lock_file import available

    if not available(Path.cwd()):
        yield Finding("versioning", NOTE, "this folder is no DVC repository under git: results are not versioned",
                      "git clone the project, rather than unpack an archive of it")  # fmt: skip
        return
    from dvc.repo import Repo

    with Repo() as repo:
        name = repo.config["core"].get("remote")
        if not name:
            yield Finding("DVC remote", NOTE, "there is none: results stay on this machine",
                          "dvc remote add --default NAME URL")  # fmt: skip
            return
        try:
            filesystem = repo.cloud.get_remote(name).odb
            place = filesystem.fs.join(filesystem.path, f"latent-atlas-{uuid.uuid4().hex}")
            filesystem.fs.makedirs(filesystem.path, exist_ok=True)
            with filesystem.fs.open(place, "wb") as file:
                file.write(b"written by latent-atlas doctor")
            filesystem.fs.remove(place)
        except Exception as error:
            reason = str(error) or type(error).__name__
            yield Finding("DVC remote", BAD, f"{name} cannot be written to: {reason}",
                          f"correct it: dvc remote modify {name}; a read-only one serves dvc pull alone")  # fmt: skip
        else:
            yield Finding("DVC remote", GOOD, f"{name} ({filesystem.path}) can be written to")


def file_system(folder: Path) -> Iterator[Finding]:
    """Room, speed and clock of the file system that all jobs share."""
    for place, what in ((folder, "here"), (folder / ".dvc" / "cache", "in DVC's cache")):
        existing = next(parent for parent in (place, *place.parents) if parent.exists())
        free = shutil.disk_usage(existing).free / 1e9
        if free < NEEDED_GB:
            yield Finding("space", BAD, f"{free:.1f} GB free {what} ({existing}); a study needs about {NEEDED_GB}",
                          "free some, or move DVC's cache: dvc cache dir PATH")  # fmt: skip
        else:
            yield Finding("space", GOOD, f"{free:.0f} GB free {what}")
    scratch = folder / f".doctor-{uuid.uuid4().hex}"
    times, ahead = [], 0.0
    try:
        scratch.mkdir()
        for number in range(20):
            start = time.perf_counter()
            aside, path = scratch / f"{number}.part", scratch / str(number)
            with aside.open("wb") as file:
                file.write(b"x" * 4096)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
            ahead = path.stat().st_mtime - time.time()
            times.append(1000 * (time.perf_counter() - start))
    except OSError as error:
        yield Finding("file system", BAD, f"{folder} cannot be written to: {error.strerror}",
                      "work in a folder of your own, on a file system that all nodes see")  # fmt: skip
        return
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    median = statistics.median(times)
    if median > SLOW_MS:
        yield Finding("file system", NOTE, f"{median:.0f} ms to write a small file safely, which is slow",
                      "raise latency-wait in the profile, or work on a faster file system")  # fmt: skip
    else:
        yield Finding("file system", GOOD, f"{median:.1f} ms to write a small file safely")
    if abs(ahead) > 1:
        yield Finding("clock", NOTE, f"files are dated {ahead:+.0f} s from this machine's clock",
                      "have the clocks set: latency-wait must cover the difference")  # fmt: skip


def scheduler(profile: Path | None, settings: dict[str, Any]) -> Iterator[Finding]:
    """Whether the profile's executor is here and would take every kind of job of this study."""
    executor = settings.get("executor", "local")
    if executor == "local":
        yield Finding("executor", GOOD, f"this machine, {os.cpu_count()} cores")
        return
    if importlib.util.find_spec(f"snakemake_executor_plugin_{executor.replace('-', '_')}") is None:
        yield Finding("executor", BAD, f"{profile} wants {executor}, whose plugin is not installed",
                      f"pip install snakemake-executor-plugin-{executor}")  # fmt: skip
        return
    if executor != "slurm":
        yield Finding("executor", NOTE, f"{executor}: its plugin is installed; nothing more is checked")
        return
    from latent_atlas.cluster.gpus import CHECK_VARIABLE

    command = [sys.executable, "-m", "snakemake", "--dry-run", "--forceall", "--quiet", "all",
               "--profile", str(profile)]  # fmt: skip
    done = subprocess.run(
        command, env=os.environ | {CHECK_VARIABLE: "slurm"}, capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        yield Finding("SLURM", GOOD, "would take every kind of job of this study")
        return
    said = [line.strip() for line in f"{done.stdout}\n{done.stderr}".splitlines()]
    lines = [line for line in said if line and not line.startswith(("Using ", "WorkflowError", "File "))]
    message, _, remedy = " ".join(lines).partition(" Change ")
    yield Finding("SLURM", BAD, message, remedy and f"change {remedy}")


def nodes(settings: dict[str, Any]) -> Iterator[Finding]:
    """What short jobs find in each partition: this folder, this Python, and a GPU where one is asked for."""
    if settings.get("executor") != "slurm" or shutil.which("srun") is None:
        yield Finding("nodes", NOTE, "no SLURM to ask: the profile names none, or there is no srun here")
        return
    wishes = [settings.get("default-resources") or {}, *(settings.get("set-resources") or {}).values()]
    requests: set[tuple[tuple[str, ...], bool]] = set()
    for wish in wishes:
        merged = {**(settings.get("default-resources") or {}), **wish}
        words = [f"--partition={merged['slurm_partition']}"] if "slurm_partition" in merged else []
        words += [f"--account={merged['slurm_account']}"] if "slurm_account" in merged else []
        words += [f"--gres={merged['gres']}"] if merged.get("gres") else []
        words += [f"--gpus={merged['gpu']}"] if merged.get("gpu") else []
        requests.add((tuple(words), bool(merged.get("gres") or merged.get("gpu"))))
    for options, wants_gpu in sorted(requests):
        command = ["srun", *options, "--ntasks=1", "--time=2", "--mem=1500", "--quiet", sys.executable, "-m",
                   "latent_atlas.cli", "doctor", "--probe"]  # fmt: skip
        subject = f"nodes with {' '.join(options) or 'no request'}"
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired:
            yield Finding(subject, NOTE, f"no job started within {TIMEOUT_S} s: the queue is long, or stuck")
            continue
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            yield Finding(subject, BAD, f"a short job failed: {last}",
                          "all nodes must see the project's folder and its .venv under the same path")  # fmt: skip
            continue
        found = json.loads(done.stdout.strip().splitlines()[-1])
        there = ", ".join(found["gpus"]) or "no GPU"
        if wants_gpu and not found["gpus"]:
            yield Finding(subject, BAD, f"{found['node']}: torch {found['torch']} sees no GPU ({found['trouble']})",
                          "install a torch whose CUDA the node's driver supports, or correct the request")  # fmt: skip
        else:
            yield Finding(subject, GOOD, f"{found['node']}: torch {found['torch']}, {there}")


def _here() -> dict[str, Any]:
    """What torch finds on this machine."""
    import torch

    trouble, gpus = "", []
    try:
        for index in range(torch.cuda.device_count()):
            torch.ones(8, 8, device=f"cuda:{index}").sum().item()
            gpus.append(torch.cuda.get_device_name(index))
    except (RuntimeError, AssertionError) as error:
        trouble, gpus = str(error).splitlines()[0], []
    return {
        "node": os.environ.get("SLURMD_NODENAME") or socket.gethostname(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "driver": _driver(),
        "gpus": gpus,
        "trouble": trouble or "none is visible",
    }


def _driver() -> str | None:
    """Version of the NVIDIA driver here; None without one."""
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.splitlines()[0].strip() if done.returncode == 0 and done.stdout.strip() else None


def _answer(url: str) -> str | None:
    """Why an address does not answer; None if it does."""
    import urllib.request

    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=10):  # noqa: S310
            return None
    except OSError as error:
        return str(getattr(error, "reason", error))


def _read(profile: Path | None) -> dict[str, Any]:
    """The settings of a profile."""
    if profile is None:
        return {}
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    path = profile / "config.yaml"
    try:
        return YAML(typ="safe").load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError as error:
        raise click.ClickException(f"there is no {path}: name the folder of a Snakemake profile") from error
    except YAMLError as error:
        raise click.ClickException(f"{path} is not valid YAML: {error}") from error
