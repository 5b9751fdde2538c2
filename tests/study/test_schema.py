"""The parameter file: every mistake is named by its path, with its value and what is allowed."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Any

import pytest
from support import ROOT, Study

from latent_atlas.cli import stages
from latent_atlas.data.images import Images
from latent_atlas.data.sources import datasets, get
from latent_atlas.errors import ParamsError
from latent_atlas.models.registry import build
from latent_atlas.study import schema as config
from latent_atlas.study import sources
from latent_atlas.study.manifolds import groups, manifolds, pca_manifolds
from latent_atlas.study.models import training_of
from latent_atlas.versioning.common import canonical

MODEL = {"architecture": "fully_connected", "latent_dim": 2}


def complaints(study: Study) -> list[str]:
    """The lines in which the study's parameter file is refused."""
    with pytest.raises(ParamsError) as caught:
        _ = study.params
    first, *lines = str(caught.value).split("\n  ")
    assert first == f"{study.folder / 'params.yaml'} cannot be used:"
    return lines


class TestShipped:
    """The parameter file of the project."""

    def test_is_valid(self) -> None:
        params = config.load(ROOT / "params.yaml")
        assert list(params.models) == ["conv16", "conv32", "conv128", "fc16", "fc32", "fc128"]
        assert [model.latent_dim for model in params.models.values()] == [16, 32, 128] * 2
        assert params.dataset.name == "FashionMNIST"
        assert params.pca.latent_dims == [16, 32, 128]

    def test_small_one_of_the_tests_is_valid(self, study: Study) -> None:
        assert manifolds(study.params) == ["fc2", "fc4", "pca2", "pca2_uncentred"]


class TestOneMistake:
    """A single wrong entry, and the whole line that names it."""

    def test_misspelt_key_that_is_needed_is_named_once(self, study: Study) -> None:
        del study.values["training"]["batch_size"]
        study.edit("training.batchsize", 8)
        assert complaints(study) == ["training.batchsize: unknown key, did you mean 'batch_size'?"]

    def test_misspelt_architecture_is_a_question(self, study: Study) -> None:
        study.edit("models.fc2.architecture", "fully_conected")
        (line,) = complaints(study)
        assert line.startswith(
            "models.fc2.architecture: 'fully_conected' is no architecture, did you mean 'fully_connected'?"
        )

    @pytest.mark.parametrize(
        ("key", "value", "line"),
        [
            ("trainnig", {}, "trainnig: unknown key, did you mean 'training'?"),
            ("training.epoch", 3, "training.epoch: unknown key, did you mean 'epochs'?"),
            ("models.fc2.latent_dims", 3, "models.fc2.latent_dims: unknown key, did you mean 'latent_dim'?"),
            ("models.fc2.training.epoch", 3, "models.fc2.training.epoch: unknown key, did you mean 'epochs'?"),
            ("pca.qqq", 3, "pca.qqq: unknown key; known here: latent_dims"),
            ("training.epochs", 0, "training.epochs: 0 is not allowed: input should be greater than 0"),
            ("training.epochs", "5", "training.epochs: '5' is not allowed: input should be a valid integer"),
            ("training.epochs", 2.5, "training.epochs: 2.5 is not allowed: input should be a valid integer"),
            ("training.epochs", None, "training: it has no length; give epochs or steps"),
            ("training.steps", 5, "training: epochs is 2 and steps is 5; give one of the two"),
            (
                "models.fc2.training",
                {"epochs": 2, "steps": 5},
                "models.fc2.training: epochs is 2 and steps is 5; give one of the two",
            ),
            ("training.min_steps", 0, "training.min_steps: 0 is not allowed: input should be greater than 0"),
            ("training.epochs", True, "training.epochs: True is not allowed: input should be a valid integer"),
            (
                "training.batch_size",
                1,
                "training.batch_size: 1 is not allowed: input should be greater than or equal to 2",
            ),
            ("training.seed", -1, "training.seed: -1 is not allowed: input should be greater than or equal to 0"),
            *(
                (
                    key,
                    value,
                    f"{key}: {value!r} is no number of seeds and no list of them; give a number from 1 to 10000, or a "
                    f"list of whole numbers from 0 such as [0, 1, 2]",
                )
                for key, value in (
                    ("seeds", 0),
                    ("seeds", True),
                    ("seeds", []),
                    ("seeds", [0, -1]),
                    ("seeds", [0, 1.5]),
                    ("models.fc2.seeds", "two"),
                )
            ),
            ("seeds", [3, 1, 3], "seeds: the seed 3 is listed twice; a training of the same seed is the same training"),
            (
                "training.peak_learning_rate",
                "5e-3",
                "training.peak_learning_rate: '5e-3' is not allowed: input should be a valid number",
            ),
            (
                "training.peak_learning_rate",
                -0.1,
                "training.peak_learning_rate: -0.1 is not allowed: input should be greater than 0",
            ),
            (
                "training.precision",
                "float16",
                "training.precision: 'float16' is not allowed: input should be 'float32' or 'bfloat16'",
            ),
            (
                "training.optimizer",
                "sgd",
                "training.optimizer: 'sgd' is not allowed: input should be 'adam' or 'muon'",
            ),
            ("training.device", "gpu", "training.device: 'gpu' is none of auto, cpu, mps, cuda, cuda:N"),
            ("dataset.colour", "gray", "dataset.colour: 'gray' is not allowed: input should be 'grey' or 'rgb'"),
            ("dataset.limit", 0, "dataset.limit: 0 is not allowed: input should be greater than 0"),
            (
                "dataset.name",
                "Fashion",
                "dataset.name: 'Fashion' is no dataset, did you mean 'FashionMNIST'? choose one of CIFAR10, digits, "
                "FashionMNIST, MNIST, KMNIST, shapes, or a class of torchvision.datasets",
            ),
            ("models.fc2.latent_dim", 0, "models.fc2.latent_dim: 0 is not allowed: input should be greater than 0"),
            (
                "models.fc2.training.epochs",
                0,
                "models.fc2.training.epochs: 0 is not allowed: input should be greater than 0",
            ),
            (
                "models.fc2.architecture",
                "conv",
                "models.fc2.architecture: 'conv' is no architecture; choose one of convolutional, fully_connected, "
                "or name a class of your own as 'module:Class'",
            ),
            (
                "models.fc2.adapter",
                "vea",
                "models.fc2.adapter: 'vea' is no adapter, did you mean 'vae'? choose one of decoder_only, diffusers, "
                "plain, pythae, vae, or name an "
                "object of your own with the functions encode and decode as 'module:name'",
            ),
            (
                "models.fc2.adapter",
                "decoder_only",
                "models.fc2: a decoder alone cannot be trained here: name the file of its weights as state_dict",
            ),
            (
                "models.fc2.state_dict",
                "https://example.org/a.pth",
                "models.fc2.state_dict: 'https://example.org/a.pth' is an address: download the file, and name it by "
                "its path",
            ),
            *(
                (
                    "models.fc2.state_dict",
                    path,
                    f"models.fc2.state_dict: {path!r} is empty or has one of {{ }} < > or an invisible character: "
                    f"rename the file",
                )
                for path in (
                    "",
                    " ",
                    "a{b}.pth",
                    "{model}.pth",
                    "${x}.pth",
                    "a<b.pth",
                    "a\nb.pth",
                    "a\x00b",
                    "a\u200bb",
                )
            ),
            ("models.pca2", MODEL, "models.pca2: the name 'pca2' is that of a baseline; choose another"),
            ("models.16fc", MODEL, "models.16fc: a name must start with a letter and hold only letters, digits and _"),
            ("models.a/b", MODEL, "models.a/b: a name must start with a letter and hold only letters, digits and _"),
            ("pca.latent_dims", [2, 0], "pca.latent_dims.1: 0 is not allowed: input should be greater than 0"),
        ],
    )
    def test_is_named(self, study: Study, key: str, value: Any, line: str) -> None:
        study.edit(key, value)
        assert complaints(study) == [line]

    @pytest.mark.parametrize(
        ("key", "value", "starts"),
        [
            ("models", {}, "models: {} is not allowed: dictionary should have at least 1 item"),
            ("pca.latent_dims", [], "pca.latent_dims: [] is not allowed: list should have at least 1 item"),
            ("training", [1, 2], "training: [1, 2] is not allowed: input should be a valid dictionary"),
            ("models.fc2", "convolutional", "models.fc2: 'convolutional' is not allowed: input should be a valid"),
        ],
    )
    def test_of_a_whole_section_is_named(self, study: Study, key: str, value: Any, starts: str) -> None:
        study.edit(key, value)
        (line,) = complaints(study)
        assert line.startswith(starts)

    def test_name_that_yaml_reads_as_a_number(self, study: Study) -> None:
        study.values["models"][16] = MODEL
        study.write()
        with pytest.raises(ParamsError, match="models: the key 16 is no text: put it in quotes"):
            _ = study.params


class TestDataset:
    """Where the images come from, and what goes with each source."""

    @pytest.mark.parametrize(
        ("section", "line"),
        [
            ({}, "dataset: one of images, arrays, function, name says where the images come from: add one of them"),
            ({"name": "digits", "images": "photos"}, "dataset: one of images, arrays, function, name says where the "
             "images come from: remove all but one of images, name"),
            ({"images": "photos", "folder": "x"}, "dataset: folder does not go with images: photos; leave it out; "
             "known there: colour, crop, labels, limit, seed, size, test_share"),
            ({"name": "digits", "size": 4}, "dataset: size does not go with name: digits; leave it out; known there: "
             "colour, folder, limit"),
            ({"arrays": "a.npz", "labels": "l.csv"}, "dataset: labels does not go with arrays: a.npz; leave it out; "
             "known there: colour, limit, seed, test_share"),
            ({"images": "photos", "crop": "none"}, "dataset: crop needs a size; add size, or leave out crop"),
            ({"images": "photos", "size": [8]}, "dataset.size: [8] is no size; give a number of pixels, or [height, "
             "width]"),
            ({"images": "photos", "size": True}, "dataset.size: True is no size; give a number of pixels, or [height, "
             "width]"),
            ({"images": "a<b>/*.png"}, "dataset.images: 'a<b>/*.png' is no usable path: it may not be empty or hold "
             "braces or control characters or < >"),
            ({"images": "a{b}/*.png"}, "dataset.images: 'a{b}/*.png' is no usable path: it may not be empty or hold "
             "braces or control characters"),
            ({"function": "mine"}, "dataset.function: 'mine' is no function: name it as 'module:function'"),
            ({"images": "p", "test_share": 1.0}, "dataset.test_share: 1.0 is not allowed: input should be less than 1"),
            ({"name": "CIFAR_100"}, "dataset.name: 'CIFAR_100' is no dataset, did you mean 'CIFAR100'? choose one of "
             "CIFAR10, digits, FashionMNIST, MNIST, KMNIST, shapes, or a class of torchvision.datasets"),
        ],
    )  # fmt: skip
    def test_keys_that_do_not_belong_together(self, study: Study, section: dict[str, Any], line: str) -> None:
        study.edit("dataset", section)
        assert complaints(study) == [line]

    @pytest.mark.parametrize(
        "section",
        [
            {"name": "digits"},
            {"name": "CIFAR100", "size": [16, 32], "crop": "none"},
            {"name": "EMNIST", "options": {"split": "letters"}},
            {"images": "photos/**/*.png", "size": 8, "colour": "rgb", "labels": "l.csv", "test_share": 0.5, "seed": 1},
            {"arrays": "data.npz", "limit": 50, "folder": None},
            {"function": "mine.data:stripes", "options": {"count": 3}},
        ],
    )
    def test_that_are_taken(self, study: Study, section: dict[str, Any]) -> None:
        study.edit("dataset", section)
        assert study.params.dataset.model_dump(exclude_none=True).items() <= section.items()

    def test_known_from_the_files_that_are_there(
        self, study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "photos").mkdir()
        for number in range(80):
            (tmp_path / "photos" / f"{number}.png").touch()
        study.edit("dataset", {"images": "photos", "size": [1, 3], "colour": "grey"})
        study.edit("models.fc4.latent_dim", 3)
        assert complaints(study) == [
            "sample.size: 20 is too large, since photos has 8 test images here; choose at most 8"
        ]
        study.edit("sample.size", 8)
        assert complaints(study) == [
            "geodesics.pairs: 8 is too large, since photos has 8 test images here; choose at most 4"
        ]
        study.edit("geodesics.pairs", 4)
        assert complaints(study)[0].startswith("examples.trousers_74: 74 is too large, since photos has 72 train")
        study.edit("models.fc4.latent_dim", 4)
        assert complaints(study) == ["models.fc4.latent_dim: 4 is too large, since an image of photos has 3 numbers; "
                                     "choose at most 3"]  # fmt: skip


class TestMissing:
    """What is not there."""

    @pytest.mark.parametrize("section", [key for key in config.Params.model_fields if key != "seeds"])
    def test_section(self, study: Study, section: str) -> None:
        del study.values[section]
        study.write()
        assert complaints(study) == [f"{section}: missing; add it (see the comments of the shipped params.yaml)"]

    def test_key(self, study: Study) -> None:
        del study.values["training"]["seed"]
        del study.values["models"]["fc2"]["architecture"]
        study.write()
        assert sorted(complaints(study)) == [
            "models.fc2.architecture: missing; add it (see the comments of the shipped params.yaml)",
            "training.seed: missing; add it (see the comments of the shipped params.yaml)",
        ]

    def test_file(self, tmp_path: Path) -> None:
        with pytest.raises(ParamsError, match=r"there is no .*params\.yaml here: run in the project's folder"):
            config.load(tmp_path / "params.yaml")


class TestYaml:
    """How the file is read."""

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("training: {epochs: 3", "is not valid YAML: .*line 1"),
            ("a: 1\na: 2\n", "is not valid YAML: .*duplicate key"),
            ("a:\n\tb: 2\n", "is not valid YAML: .*line 2.*Indent by spaces: YAML takes no tabs"),
            ("- 1\n- 2\n", "must be a mapping of sections, not list"),
            ("", "must be a mapping of sections, not NoneType"),
            ("!!python/object/apply:os.system ['true']", "is not valid YAML"),
        ],
    )
    def test_refused(self, tmp_path: Path, text: str, says: str) -> None:
        (tmp_path / "params.yaml").write_text(text)
        with pytest.raises(ParamsError, match=f"(?s){says}") as caught:
            config.load(tmp_path / "params.yaml")
        assert str(tmp_path / "params.yaml") in str(caught.value)

    @pytest.mark.parametrize(
        ("value", "says"),
        [
            ({"vae": {"gamma": 1}}, "'vae' has no option 'gamma'; it has beta"),
            ({"mse": {"beta": 1}}, "'mse' has no option 'beta'; it has none"),
            ({"vae": {"beta": "4"}}, "beta of 'vae' is '4'; give a number of at least 0"),
            ({"vae": {"beta": True}}, "beta of 'vae' is True; give a number of at least 0"),
            ({"vae": {"beta": -0.5}}, "beta of 'vae' is -0.5; give a number of at least 0"),
            ({"contractive": {"directions": 0}}, "directions of 'contractive' is 0; give a whole number of at least 1"),
            ({"vae": {}, "mse": {}}, "{'vae': {}, 'mse': {}} is no objective; choose one of bce, contractive, "),
            ({"vae": 4.0}, "{'vae': 4.0} is no objective; choose one of bce, contractive, "),
            (3, "3 is no objective; choose one of bce, contractive, "),
        ],
    )
    @pytest.mark.parametrize("key", ["training.objective", "models.fc2.training.objective"])
    def test_objective(self, study: Study, key: str, value: Any, says: str) -> None:
        study.edit("models.fc2.training", {})
        study.edit(key, value)
        (line,) = complaints(study)
        assert line.startswith(f"{key}: {says}")

    @pytest.mark.parametrize("number", ["5e-3", "5.0e-3", "0.005", "5E-3"])
    def test_numbers_as_people_write_them(self, study: Study, number: str) -> None:
        path = study.folder / "params.yaml"
        path.write_text(path.read_text().replace("peak_learning_rate: 0.005", f"peak_learning_rate: {number}"))
        assert number in path.read_text()
        assert study.params.training.peak_learning_rate == 0.005

    @pytest.mark.parametrize("value", ["vae", {"vae": {}}, {"vae": {"beta": 4}}, {"my_losses:loss": {"any": "thing"}}])
    def test_objective_with_options(self, study: Study, value: Any) -> None:
        study.edit("training.objective", value)
        for name in ("fc2", "fc4"):
            study.edit(f"models.{name}.options", {"variational": True})
        assert study.params.training.objective == value

    def test_all_mistakes_at_once(self, study: Study) -> None:
        study.edit("training.epochs", 0)
        study.edit("dataset.colour", "gray")
        study.edit("models.fc2.latent_dims", 1)
        assert sorted(line.partition(":")[0] for line in complaints(study)) == [
            "dataset.colour",
            "models.fc2.latent_dims",
            "training.epochs",
        ]


class TestMeaning:
    """What the parameters say."""

    def test_training_of_a_model(self, study: Study) -> None:
        study.edit("models.fc4.training", {"epochs": 7, "seed": 3})
        params = study.params
        assert training_of(params, "fc2") == params.training
        own = training_of(params, "fc4")
        assert (own.epochs, own.seed) == (7, 3)
        assert (own.batch_size, own.peak_learning_rate, own.device) == (128, 0.005, "cpu")
        assert params.training.epochs == 2

    def test_override_of_zero_counts(self, study: Study) -> None:
        study.edit("training.seed", 5)
        study.edit("models.fc4.training", {"seed": 0})
        assert training_of(study.params, "fc4").seed == 0

    def test_manifolds_and_groups(self, study: Study) -> None:
        study.edit("models.mine", {"architecture": "package.module:Mine", "latent_dim": 3})
        study.edit("pca.latent_dims", [2, 4])
        params = study.params
        assert manifolds(params) == ["fc2", "fc4", "mine", "pca2", "pca4", "pca2_uncentred", "pca4_uncentred"]
        assert pca_manifolds(params)["pca4"] == (4, True)
        assert pca_manifolds(params)["pca2_uncentred"] == (2, False)
        assert groups(params) == {
            "fully_connected": ["fc2", "fc4"],
            "Mine": ["mine"],
            "pca": ["pca2", "pca4"],
            "pca_uncentred": ["pca2_uncentred", "pca4_uncentred"],
        }

    def test_checking_does_not_import_the_architecture(self, study: Study) -> None:
        study.edit("models.fc2.architecture", "nowhere.to_be_found:Class")
        assert study.params.models["fc2"].architecture == "nowhere.to_be_found:Class"


@pytest.mark.parametrize("entry", [{}, {"adapter": "vae"}, {"adapter": "decoder_only", "state_dict": None}])
def test_codes_go_with_a_decoder_alone(entry: dict[str, Any], study: Study) -> None:
    model = {"architecture": "my:Net", "latent_dim": 2, "state_dict": "net.pth", "codes": "codes.npz"}
    for adapter in ("decoder_only", "my:adapter"):
        study.edit("models.m", model | {"adapter": adapter})
        assert study.params.models["m"].codes == "codes.npz"
    study.edit("models.m", model | {"adapter": "decoder_only", "codes": "a{b}.npz"})
    assert complaints(study)[0].startswith("models.m.codes: 'a{b}.npz' is empty or has one of")
    study.edit("models.m", {key: value for key, value in (model | entry).items() if value})
    (problem,) = complaints(study)
    if "state_dict" in entry:
        assert problem == (
            "models.m: a decoder alone cannot be trained here: name the file of its weights as state_dict"
        )
    else:
        assert problem == (
            "models.m: codes are given for images only of a model with a state_dict and without an encoder: name the "
            "adapter decoder_only, or leave out codes"
        )


class TestCanonical:
    """The form in which parameters are compared."""

    def test_order_and_spelling_do_not_count(self, tmp_path: Path) -> None:
        texts = ["a: {x: 5e-3, y: [1, 2]}\nb: null\n", "b: ~\n# a comment\na:\n  y: [1,   2]\n  x: 0.005\n"]
        forms = []
        for text in texts:
            (tmp_path / "params.yaml").write_text(text)
            forms.append(canonical(config.read(tmp_path / "params.yaml")))
        assert forms[0] == forms[1]

    @pytest.mark.parametrize("other", [{"a": [2, 1]}, {"a": [1, 2.5]}, {"a": ["1", 2]}, {"b": [1, 2]}, {"a": None}])
    def test_values_do_count(self, other: dict[str, Any]) -> None:
        assert canonical(other) != canonical({"a": [1, 2]})


class TestSeeds:
    """Trainings of one model."""

    def test_of_imported_weights(self, study: Study) -> None:
        study.edit("models.fc2.state_dict", "weights.pth")
        study.edit("models.fc2.seeds", 2)
        assert complaints(study) == [
            "models.fc2: imported weights are one training: leave out seeds, or name each file as a model"
        ]

    def test_name_of_another_model(self, study: Study) -> None:
        study.edit("models.fc2_seed1", MODEL)
        study.params  # noqa: B018 with one seed the name is free
        study.edit("seeds", 2)
        assert complaints(study) == ["models.fc2_seed1: the name is that of the training of fc2 with seed 1"]


@pytest.mark.parametrize(
    ("section", "entry", "value", "said"),
    [
        ("models", "mine", MODEL | {"architecture": "mine:images"},
         "models.mine.architecture: results/reconstruct/test_images.png would also be a file of the workflow itself"),
        ("models", "mine", MODEL | {"architecture": "mine:comparison"}, "would also be a file of the workflow itself"),
        ("models", "mine", MODEL | {"architecture": "mine:pca"}, "would also be a file of models.mine.architecture"),
        ("models", "mine", MODEL | {"architecture": "mine:pca_uncentred"}, "pca: results/reconstruct/test_pca_uncentr"),
        ("interpolate.pairs", "gains", None, "results/geodesics/gains.png would also be a file of the work"),
        ("interpolate.pairs", "a_b_curves", None,
         "interpolate.pairs.a_b_curves: results/interpolate/a_b_curves.png would also be a file of interpolate.p"),
    ],
)  # fmt: skip
def test_two_names_that_lead_to_one_file(study: Study, section: str, entry: str, value: object, said: str) -> None:
    examples = list(study.params.examples)[:2]
    models, pairs = dict.fromkeys(study.params.models), dict.fromkeys(("a_b", "a_c", "curves"))
    study.edit("interpolate.pairs", {pair: list(examples) for pair in pairs})
    assert set(study.params.models) == {"fc2", "fc4"}  # until now all names are good
    if section == "models":
        study.edit(section, {name: dict(MODEL) for name in models} | {entry: value})
    else:
        study.edit(section, {pair: list(examples) for pair in [*pairs, entry]})
    (line,) = complaints(study)
    assert said in line


def test_vae_needs_variances(study: Study) -> None:
    study.edit("training.objective", "vae")
    assert complaints(study) == [
        "models.fc2: the objective vae needs log-variances; give it options: {variational: true}"
    ]
    for name in ("fc2", "fc4"):
        study.edit(f"models.{name}.options", {"variational": True})
    assert study.params.training.objective == "vae"


class TestDefaults:
    """What is left to the dataset."""

    @pytest.fixture
    @staticmethod
    def unnamed(study: Study) -> Study:
        for key in ("examples", "interpolate.pairs", "tangents.example", "invariance.pictures",
                    "invariance.step_study.example", "invariance.epoch_study.example"):  # fmt: skip
            study.edit(key, None)
        return study

    def test_examples_are_named_by_class_and_index(self, unnamed: Study) -> None:
        params = unnamed.params
        assert params.dataset.name == "digits"
        digits = get("digits", "grey", None, unnamed.folder)
        words = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
        for name, place in params.examples.items():
            split, index = place.split("/")
            assert name == f"{words[digits.labels(split)[int(index)]]}_{index}"

    def test_choices_among_them(self, unnamed: Study) -> None:
        params = unnamed.params
        assert params.interpolate.pairs == {"zero_0_one_1": ["zero_0", "one_1"], "two_2_eight_8": ["two_2", "eight_8"]}
        assert params.invariance.pictures == ["zero_0", "one_1"]
        assert {params.tangents.example, params.invariance.step_study.example,
                params.invariance.epoch_study.example} == {"zero_0"}  # fmt: skip

    def test_of_the_reference_study(self, unnamed: Study) -> None:
        unnamed.edit("dataset.name", "FashionMNIST")
        assert unnamed.params.examples == {
            "pullover": "train/5", "sneaker": "train/6", "trousers_71": "train/71", "trousers_74": "train/74",
        }  # fmt: skip

    def test_of_a_dataset_of_unknown_classes(self, unnamed: Study) -> None:
        unnamed.edit("dataset.name", "KMNIST")
        assert unnamed.params.examples["train_3"] == "train/3"

    def test_are_a_source_of_every_stage(self) -> None:
        assert all(
            "defaults.py" in {Path(file).name for file in sources.sources(stage.function)}
            for stage in stages().values()
        )


class TestFitsTheDataset:
    """What is known of a dataset before it is here."""

    @pytest.mark.parametrize(
        ("key", "value", "line"),
        [
            ("models.fc2.latent_dim", 65, "models.fc2.latent_dim: 65 is too large, since an image of digits has 64 "
             "numbers; choose at most 64"),
            ("models.fc2", {"architecture": "convolutional", "latent_dim": 2}, "models.fc2: the images of digits are "
             "8x8 and its convolutions need at least 9x9; set options: {kernel: 4} or smaller"),
            ("pca.latent_dims", [2, 65], "pca.latent_dims: 65 is too large, since 1500 images of 64 numbers have 64 "
             "components; choose at most 64"),
            ("sample.size", 298, "sample.size: 298 is too large, since digits has 297 test images here; choose at most "
             "297"),
            ("geodesics.pairs", 149, "geodesics.pairs: 149 is too large, since digits has 297 test images here; choose "
             "at most 148"),
            ("examples.sneaker", "test/297", "examples.sneaker: 297 is too large, since digits has 297 test images "
             "here; choose at most 296"),
        ],
    )  # fmt: skip
    def test_is_said_before_anything_runs(self, study: Study, key: str, value: Any, line: str) -> None:
        study.edit(key, value)
        assert complaints(study) == [line]

    def test_the_limit_and_the_colours_count(self, study: Study) -> None:
        study.edit("dataset.limit", 60)
        study.edit("pca.latent_dims", [61])
        assert complaints(study)[0].startswith("pca.latent_dims: 61 is too large, since 60 images")
        study.edit("pca.latent_dims", [2])
        study.edit("dataset", {"name": "CIFAR10", "colour": "grey", "folder": None, "limit": None})
        study.edit("models.fc2.latent_dim", 1025)
        assert complaints(study)[0].startswith("models.fc2.latent_dim: 1025 is too large")
        study.edit("dataset.colour", "rgb")
        assert study.params.models["fc2"].latent_dim == 1025

    def test_the_kernel_that_is_advised_can_be_built(self, study: Study) -> None:
        study.edit("models.fc2", {"architecture": "convolutional", "latent_dim": 2, "options": {"kernel": 4}})
        assert study.params
        build("convolutional", (1, 8, 8), 2, {"kernel": 4})

    def test_known_shapes_are_those_of_the_images(self, digits: Images) -> None:
        known = datasets()["digits"]
        assert (known.train, known.test, known.shape) == (len(digits.train), len(digits.test), digits.shape)


class TestNoBehaviour:
    """What the engines do not watch computes nothing that a stage uses."""

    def test_the_schema_holds_values_only(self) -> None:
        sections = [cls for _, cls in inspect.getmembers(config, inspect.isclass) if issubclass(cls, config.Section)]
        assert config.Params in sections
        for section in sections:
            computed = {
                name
                for name, member in vars(section).items()
                if isinstance(member, property | classmethod | staticmethod) or inspect.isfunction(member)
            }
            checks = set(section.__pydantic_decorators__.model_validators)
            assert {name for name in computed - checks if not name.startswith("__")} == set(), section

    def test_stages_take_no_function_from_modules_that_are_not_watched(self) -> None:
        allowed = {
            "latent_atlas": set(),
            "latent_atlas.study.schema": {"Params"},
            "latent_atlas.command": {"add_metadata", "log", "report_progress"},
        }
        package = sources.PACKAGE
        stages = [path.stem for path in (package / "stages").glob("*.py") if path.stem != "__init__"]
        watched = {Path(file).resolve() for stage in stages for file in sources.sources(stage)}
        assert package / "stages" / "train.py" in watched
        for file in watched:
            tree = ast.parse(file.read_text())
            hidden = {child for node in ast.walk(tree) if _for_types(node) for child in ast.walk(node)}
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom) and node.module in sources.HANDS_ON and node not in hidden:
                    names = {alias.name for alias in node.names}
                    modules = {f"{node.module}.{name}" for name in names} & _modules()
                    assert not modules & sources.HANDS_ON, file
                    taken = {name for name in names if f"{node.module}.{name}" not in modules}
                    assert taken <= allowed.get(node.module, set()), f"{file} takes {taken} from {node.module}"


def _for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def _modules() -> set[str]:
    return {
        ".".join(("latent_atlas", *path.relative_to(sources.PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
        for path in sources.PACKAGE.rglob("*.py")
    }
