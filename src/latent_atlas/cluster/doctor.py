"""doctor: checks of this site before the first run, each with what to change."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from latent_atlas.cluster import run
from latent_atlas.errors import LatentAtlasError

NEEDED_GB = 3  # the dataset, the results and DVC's copy of them, with a margin
SLOW_MS = 50  # to write and rename a small file; a thousand outputs then take about a minute
TIMEOUT_S = 180  # for a test job, its time in the queue included
SRUN_OPTIONS = {"slurm_partition": "--partition", "slurm_account": "--account", "gres": "--gres", "gpu": "--gpus"}

GOOD, NOTE, BAD = "ok", "note", "PROBLEM"


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes
    ----------
    subject : str
    verdict : {"ok", "note", "PROBLEM"}
    message : str
    remedy : str
        What to change; empty if nothing has to be changed.
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
@click.option("--test-job", is_flag=True, hidden=True, help="What the short job runs.")
def doctor(profile: Path | None, on_nodes: bool, test_job: bool) -> None:
    """Check this site before the first run, and list what to change.

    Nothing is computed. Nothing is submitted, except with --on-nodes. Fails if there is a problem.

    \b
    Example:
      latent-atlas doctor --profile profiles/slurm --on-nodes
    """
    if test_job:
        click.echo(json.dumps(_here()))
        return
    if not Path("Snakefile").is_file():
        raise click.ClickException("this folder has no Snakefile: run it in the project's folder")
    from latent_atlas.study import schema as config
    from latent_atlas.versioning.common import VersioningError, read_yaml

    try:
        params = config.load("params.yaml")
        settings = read_yaml(profile / "config.yaml") if profile else {}
    except (LatentAtlasError, VersioningError) as error:
        raise click.ClickException(str(error)) from error
    problems = 0
    for finding in itertools.chain(
        tools(),
        devices(settings, params),
        dataset(params),
        remote(),
        file_system(Path.cwd()),
        scheduler(profile, settings),
        nodes(settings) if on_nodes else (),
    ):
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
    """Whether torch can use the GPUs of this machine."""
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
        needed = params.training.device.startswith("cuda")
        remedy = "set training.device: auto in params.yaml" if needed else ""
        yield Finding("GPU", BAD if needed else NOTE, f"none here; {build} trains on the CPU", remedy)
    else:
        yield Finding("GPU", NOTE, f"none on this machine; {build}. Nodes may differ: --on-nodes asks them")


def dataset(params: Any) -> Iterator[Finding]:
    """Whether the dataset is here or can be downloaded."""
    from latent_atlas.data.sources import BUILT_IN, SHAPES, named
    from latent_atlas.study.sources import dataset as modules
    from latent_atlas.study.sources import dataset_files, sources

    wanted = params.dataset
    key, _, beside = named(wanted.model_dump())
    name, folder, path = getattr(wanted, key), wanted.folder, Path("data/images.safetensors")
    if path.exists():
        if trouble := _wrong_images(path, name):
            yield Finding("dataset", BAD, f"{path} {trouble}", f"delete it; fetch will get {name} again")
        else:
            yield Finding("dataset", GOOD, f"{path} holds {name}")
        return
    if folder is not None:
        if Path(folder).expanduser().is_dir():
            yield Finding("dataset", GOOD, f"{folder} is here; fetch will verify its content")
        else:
            yield Finding("dataset", BAD, f"there is no folder {folder}", "correct dataset.folder in params.yaml")
        return
    if key != "name":
        try:
            count = len(dataset_files(wanted))
            sources("fetch", *modules(wanted))
        except LatentAtlasError as error:
            yield Finding("dataset", BAD, str(error), f"correct dataset.{key} in params.yaml")
        else:
            yield Finding("dataset", GOOD, f"{name} is here" + (f": {count} files" if key == "images" else ""))
        return
    if name in (SHAPES, "digits"):
        yield Finding("dataset", GOOD, "shapes are drawn here" if name == SHAPES else "digits come with scikit-learn")
        return
    if beside != BUILT_IN:
        yield Finding("dataset", NOTE, f"torchvision will get {name}; whether it can is seen when it does",
                      "or name a folder with its files as dataset.folder")  # fmt: skip
        return
    from latent_atlas.data import torchvision_import

    kind = getattr(torchvision_import.datasets(), name)
    urls = [mirror + kind.resources[0][0] for mirror in getattr(kind, "mirrors", [])] or [kind.url]
    errors = {}
    for url in urls:
        errors[url] = _download_error(url)
        if errors[url] is None:
            yield Finding("dataset", GOOD, f"{url} answers")
            return
    tried = "; ".join(f"{url}: {error}" for url, error in errors.items())
    if name == "FashionMNIST" and shutil.which("apt-get") and shutil.which("dpkg-deb"):
        yield Finding("dataset", NOTE, f"no mirror answers ({tried}); fetch will try Debian's package")
    else:
        yield Finding("dataset", BAD, f"no mirror answers ({tried})",
                      "bring its files here and name their folder as dataset.folder in params.yaml")  # fmt: skip


def _wrong_images(path: Path, name: str) -> str:
    """Why a file is not the images of a dataset; empty if it is. The whole file is read for its checksum."""
    from latent_atlas.data.images import Images

    try:
        images = Images.load(path)
    except LatentAtlasError as error:
        return str(error).removeprefix(f"{path} ")
    return "" if images.name == name else f"holds {images.name}, but params.yaml names {name}"


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
    """Free space, speed and clock of the file system that all jobs share."""
    for place, where in ((folder, "here"), (folder / ".dvc" / "cache", "in DVC's cache")):
        existing = next(parent for parent in (place, *place.parents) if parent.exists())
        free = shutil.disk_usage(existing).free / 1e9
        if free < NEEDED_GB:
            yield Finding("space", BAD, f"{free:.1f} GB free {where} ({existing}); a study needs about {NEEDED_GB} GB",
                          "delete other files, or move DVC's cache: dvc cache dir PATH")  # fmt: skip
        else:
            yield Finding("space", GOOD, f"{free:.0f} GB free {where}")
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
                      "synchronize the clocks, or set latency-wait in the profile above the difference")  # fmt: skip


def scheduler(profile: Path | None, settings: dict[str, Any]) -> Iterator[Finding]:
    """Whether the profile's executor is installed and would accept every kind of job of this study."""
    executor = settings.get("executor", "local")
    if executor == "local":
        yield Finding("executor", GOOD, f"this machine, {os.cpu_count()} cores")
        return
    if importlib.util.find_spec(f"snakemake_executor_plugin_{executor.replace('-', '_')}") is None:
        yield Finding("executor", BAD, f"{profile} names {executor}, whose plugin is not installed",
                      f"pip install snakemake-executor-plugin-{executor}")  # fmt: skip
        return
    if executor != "slurm":
        yield Finding("executor", NOTE, f"{executor}: its plugin is installed; nothing more is checked")
        return
    from latent_atlas.cluster.gpus import CHECK_VARIABLE

    arguments = ["--dry-run", "--forceall", "--quiet", "all", "--profile", str(profile)]
    done = run(sys.executable, "-m", "snakemake", *arguments, env=os.environ | {CHECK_VARIABLE: "slurm"})
    if done.returncode == 0:
        yield Finding("SLURM", GOOD, "would take every kind of job of this study")
        return
    said = f"{done.stdout}\n{done.stderr}"
    error = said.partition("WorkflowError")[2].partition(":\n")[2].partition('\n  File "')[0]
    message, _, remedy = " ".join((error or said).split()).partition(" Change ")
    yield Finding("SLURM", BAD, message, remedy and f"change {remedy}")


def nodes(settings: dict[str, Any]) -> Iterator[Finding]:
    """Whether a short job in each partition finds this folder, this Python, and a GPU if it requests one."""
    if settings.get("executor") != "slurm" or shutil.which("srun") is None:
        yield Finding("nodes", NOTE, "no test job: the profile does not name SLURM, or there is no srun here")
        return
    requests = set()
    default = settings.get("default-resources") or {}
    for resources in (default, *(settings.get("set-resources") or {}).values()):
        merged = default | resources
        requests.add(tuple(f"{option}={merged[key]}" for key, option in SRUN_OPTIONS.items() if merged.get(key)))
    for options in sorted(requests):
        command = [*options, "--ntasks=1", "--time=2", "--mem=1500", "--quiet",
                   sys.executable, "-m", "latent_atlas.cli", "doctor", "--test-job"]  # fmt: skip
        subject = f"nodes with {' '.join(options) or 'no request'}"
        try:
            done = run("srun", *command, timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            yield Finding(subject, NOTE, f"no job started within {TIMEOUT_S} s: the queue is long, or blocked")
            continue
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            yield Finding(subject, BAD, f"a short job failed: {last}",
                          "all nodes must see the project's folder and its .venv under the same path")  # fmt: skip
            continue
        found = json.loads(done.stdout.strip().splitlines()[-1])
        there = ", ".join(found["gpus"]) or "no GPU"
        if not found["gpus"] and any(option.startswith("--g") for option in options):
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
    done = run("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    return done.stdout.splitlines()[0].strip() if done.returncode == 0 and done.stdout.strip() else None


def _download_error(url: str) -> str | None:
    """Why an address does not answer; None if it does."""
    import urllib.request

    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=10):  # noqa: S310
            return None
    except OSError as error:
        return str(getattr(error, "reason", error))
