# Names and helpers that all rules share. What they do is in src/latent_atlas/workflow.py.
from pathlib import Path

from snakemake.exceptions import WorkflowError

from latent_atlas.study import schema as parameter_file
from latent_atlas.cluster import gpus as cluster
from latent_atlas.study import resources as requests
from latent_atlas.errors import LatentAtlasError
from latent_atlas.cluster import records
from latent_atlas.versioning import attach
from latent_atlas.study.sources import (
    packaged,
    parameters,
    put_commands_on_path,
    without_storage,
)
from latent_atlas.study.sources import (
    sources as source_files,
)

put_commands_on_path()
STORED = workflow.storage_settings.default_storage_provider is not None


def here(file):
    """A file that goes with the workflow, also where inputs and outputs lie in object storage."""
    return local(file) if STORED else file


def sources(*names):
    """The source files of a stage: see latent_atlas.study.sources.sources."""
    return [here(file) for file in source_files(*names)]


if config:
    raise WorkflowError(
        f"--config and --configfile are not read here ({', '.join(config)}): edit params.yaml, "
        "which is what every stage reads"
    )

try:
    STUDY = parameter_file.load("params.yaml")
    VALUES = parameter_file.read("params.yaml")
    TRAINED = STUDY.trained
    IMPORTED = [name for name in STUDY.models if name not in TRAINED]
    ARCHITECTURES = sorted({model.architecture for model in STUDY.models.values()})
    REQUESTS = requests.Requests(
        requests.read(Path(workflow.basedir) / requests.MEASURED), STUDY
    )
    for architecture in ARCHITECTURES:
        sources("train", architecture)
except LatentAtlasError as error:
    raise WorkflowError(str(error))

memory, runtime = REQUESTS.mem_mb, REQUESTS.runtime

ENVIRONMENT = "../envs/latent-atlas.yaml"
IMAGES = "data/images.safetensors"
CHECKPOINT = "results/checkpoints/{manifold}.safetensors"


def architecture_of(manifold):
    """The architectures that a manifold's checkpoint needs to be read: one for a model, none for PCA."""
    model = STUDY.models.get(manifold)
    return [model.architecture] if model else []


# Modules of a user's own transformations: sources of whatever applies them.
MOTIONS = [
    entry.function
    for entry in STUDY.invariance.transformations.values()
    if ":" in (entry.function or "")
]


wildcard_constraints:
    model="|".join(STUDY.models),
    manifold="|".join(STUDY.manifolds),


def every(outputs, **wildcards):
    """Outputs of a rule for all these wildcards, also where they lie in object storage."""
    provider = workflow.storage_settings.default_storage_prefix
    files = [outputs] if isinstance(outputs, str) else outputs
    return expand([without_storage(file, provider) for file in files], **wildcards)
