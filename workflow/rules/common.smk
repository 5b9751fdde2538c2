# Names and helpers that all rules share.
import json
from itertools import product
from os.path import expanduser
from pathlib import Path

from snakemake.exceptions import WorkflowError

from latent_atlas.cluster import gpus as cluster
from latent_atlas.cluster import records
from latent_atlas.data.sources import SHAPES
from latent_atlas.errors import LatentAtlasError
from latent_atlas.report.assets import EXPLORER, PLOTS
from latent_atlas.report.pictures import webp
from latent_atlas.study import resources, schema
from latent_atlas.study.manifolds import (
    compared,
    firsts,
    groups,
    members,
    networks,
    pca_manifolds,
    trained,
)
from latent_atlas.study.models import training_of
from latent_atlas.study.sources import (
    adapter,
    architecture,
    dataset,
    dataset_files,
    objective,
    origins,
    packaged,
    put_commands_on_path,
    values_of_wildcards,
    without_storage,
)
from latent_atlas.study.starting import started
from latent_atlas.study.sources import parameters as parameters_text
from latent_atlas.study.sources import inputs as source_inputs
from latent_atlas.versioning import attach

put_commands_on_path()
STORAGE = workflow.storage_settings.default_storage_prefix
STORED = workflow.storage_settings.default_storage_provider is not None


def here(file):
    """A file that goes with the workflow, also where inputs and outputs lie in object storage."""
    return local(file) if STORED else file


def sources(*names):
    """What stands for the source files of a stage: see latent_atlas.study.sources.inputs."""
    return [here(file) for file in source_inputs(*names)]


def parameters(values, *keys):
    """The values at dotted keys, as a function: in a string, Snakemake would take a user's {...} for a wildcard."""
    text = parameters_text(values, *keys)
    return lambda wildcards: text


def network(model):
    """What builds a model: its architecture, and its adapter, or those that are chosen where none is named."""
    own = ["plain", "vae"] if ":" in model.architecture else []
    adapters = [model.adapter] if model.adapter else own
    return [architecture(model.architecture), *map(adapter, adapters)]


if config:
    raise WorkflowError(
        f"--config and --configfile are not read here ({', '.join(config)}): edit params.yaml, "
        "which is what every stage reads"
    )

try:
    STUDY = schema.load("params.yaml")
    # As they stand in the file, for DVC compares them with it; what null stands for is told by a source of each stage.
    VALUES = schema.read("params.yaml")
    measured = resources.MEASURED  # of this study, else of the default study
    if not measured.exists():
        measured = Path(str(workflow.current_basedir)).parent / measured.name
    requests = resources.Requests(resources.read(measured), STUDY)
    for name, model in STUDY.models.items():
        sources("train", *network(model), objective(training_of(STUDY, name).objective))
    sources("fetch", *dataset(STUDY.dataset))
    DATASET_FILES = [here(file) for file in dataset_files(STUDY.dataset)]
except LatentAtlasError as error:
    raise WorkflowError(str(error))

started()

# What says how often each model is trained. DVC takes a key that the file lacks for a change.
SEEDS = ["training.seed", *({"seeds"} & VALUES.keys())]
MANIFOLDS = members(STUDY)
FIRSTS = firsts(STUDY)
COMPARED = compared(STUDY)
PCA = pca_manifolds(STUDY)
NETWORKS = networks(STUDY)
TRAINED = trained(STUDY)
IMPORTED = [name for name in NETWORKS if name not in TRAINED]

ENVIRONMENT = "../envs/latent-atlas.yaml"
IMAGES = "data/images.safetensors"
CHECKPOINT = "results/checkpoints/{manifold}.safetensors"


def architecture_of(manifold):
    """The modules that a manifold's checkpoint needs to be read: those of a model, none for PCA."""
    return (
        network(STUDY.models[NETWORKS[manifold].model]) if manifold in NETWORKS else []
    )


def entry(manifold):
    """A network's entry in the parameter file; without its ``seeds``, so that more of them leave the others as they are."""
    model = NETWORKS[manifold].model
    keys = VALUES["models"][model]
    own = [f"models.{model}.{key}" for key in keys if key != "seeds"]
    return own if "seeds" in keys else [f"models.{model}"]


# Modules of a user's own transformations: sources of the stages that apply them.
TRANSFORMATIONS = [
    entry.function
    for entry in STUDY.invariance.transformations.values()
    if ":" in (entry.function or "")
]


def submitted_as(group):
    """The group in which a cluster gets a rule's jobs; none where they run on this machine."""
    return group if cluster.submits(workflow) else None


def one_of(names):
    """The constraint of a wildcard that stands for one of these names."""
    return "|".join(names) or "none"


wildcard_constraints:
    manifold=one_of(MANIFOLDS),


def every(outputs, **wildcards):
    """Outputs of a rule for all these wildcards, also where they lie in object storage."""
    files = [outputs] if isinstance(outputs, str) else outputs
    # As plain text: inputs have none of the flags of the outputs that they are.
    return expand([str(without_storage(file, STORAGE)) for file in files], **wildcards)


# Where Snakemake's own report has the figures and tables of stages; of others by the stage's name.
CATEGORIES = {
    "factors": "Known factors",
    "interpolate": "Interpolation",
    "invariance": "Invariance angles",
    "jacobian": "Jacobians and ranks",
    "known_answers": "Known answers",
    "pca": "PCA",
    "reconstruct": "Reconstruction",
    "tangents": "Tangent spaces",
    "train": "Training",
}


def in_report(file, name=None, **labels):
    """An output that Snakemake's own report shows, with the caption workflow/report/STAGE/NAME.rst; the file's name if None."""
    path = Path(file)
    stage, name = path.parts[1], name or path.stem
    kind = "table" if path.suffix == ".csv" else "figure"
    return report(
        file,
        caption=f"../report/{stage}/{name}.rst",
        category=CATEGORIES.get(stage, stage.capitalize()),
        subcategory=f"{kind.capitalize()}s",
        labels={kind: name.replace("_", " "), **labels},
    )


def figures(pattern, name=None, endings=(".svg", ".png"), **values):
    """The files of figures, for all combinations of the values, in each format; Snakemake's own report shows the first one."""
    chosen = [dict(zip(values, each)) for each in product(*values.values())]
    return [
        in_report(file, name, **labels) if ending == endings[0] else file
        for labels in chosen
        for ending in endings
        for file in [pattern.format(**labels) + ending]
    ]


def shown_as(picture):
    """The file of the page that is made of a picture of the results."""
    within = Path(without_storage(str(picture), STORAGE)).relative_to("results")
    return f"results/report/{webp(within)}"


PAGE_CAPTION = Path(str(workflow.current_basedir)).parent / "report/page.rst"


def page():
    """The folder of the page, if it is there: Snakemake's own report takes what lies beside a page only with its folder."""
    folder = "results/report"
    if STORED or not Path(folder, "index.html").exists():
        return []
    caption, labels = str(PAGE_CAPTION), {"page": "all results"}
    marks = {"caption": caption, "category": "Overview", "labels": labels}
    return [report(folder, subcategory="Page", htmlindex="index.html", **marks)]


def read_by(rule):
    """The files that a rule reads, but for source files, whose version the page tells; as patterns."""
    own = rule.input.get("sources")
    kept = [file for file in rule.input if not callable(file)]
    if not callable(own):
        kept = [file for file in kept if file not in list(own)]
    return [without_storage(file, STORAGE) for file in kept]


def origin(rule):
    """What the page says of a rule that made its files."""
    return {
        "outputs": [without_storage(file, STORAGE) for file in rule.output],
        "inputs": read_by(rule),
        "params": list(json.loads(rule.params.values(None))),
    }


def everything():
    """What asks for every job of all rules above: its first output that is missing, else its first; the page's folder if it is there.

    A job that runs makes all of its outputs. In object storage, where it is not known what is missing: every output.

    Raises
    ------
    WorkflowError
        If two outputs are the same file.
    """
    names = {"manifold": MANIFOLDS}
    makers, asked = {}, []
    for each in workflow.rules:
        values = values_of_wildcards(each, names)
        outputs = [every(file, **values) for file in getattr(rules, each.name).output]
        for files in zip(*outputs):  # of a job
            for file in files:
                makers.setdefault(file, []).append(each.name)
            missing = (file for file in files if not Path(file).exists())
            asked += files if STORED else [next(missing, files[0])]
    for file, by in makers.items():
        if len(by) > 1:
            raise WorkflowError(
                f"{file} would be made twice ({', '.join(by)}): two names in params.yaml lead to it; rename one"
            )
    return [*asked, *page()]
