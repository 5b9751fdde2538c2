"""Numbers that are known from elsewhere, for those of a study of the same data to be held against.

The reference study's are of one training of each model, in float32, at one image. Those of PCA follow from the data.
"""

from __future__ import annotations

import pandas as pd

from latent_atlas.study.schema import Params

DATASET = "FashionMNIST"
EXAMPLE = "pullover"
PLACE = "train/5"
ARCHITECTURES = {"conv": "convolutional", "fc": "fully_connected"}
REFERENCE = "reference study"
SCIKIT_LEARN = "scikit-learn 1.9, PCA(svd_solver='covariance_eigh'), float64"
MOOR = "Moor, Horn, Rieck & Borgwardt, Topological Autoencoders, ICML 2020"

# Kinds of known answers, and what the tolerance of each is.
DATA = "data alone"  # the largest difference
TRAINING = "another training: same range expected"  # the largest factor between the two
SCALE = "another training: in units of its own code"  # none: these are not judged


def same_data(params: Params) -> bool:
    """Whether a study is of all images that these numbers are of."""
    data = params.dataset
    return data.name == DATASET and data.limit is None and data.colour in (None, "grey")


def comparable(params: Params) -> bool:
    """Whether a study looks at the same image of the same data."""
    return same_data(params) and params.examples.get(EXAMPLE) == PLACE


def same_model(params: Params, name: str) -> bool:
    """Whether a model of that name is built as the reference study's."""
    model = params.models.get(name)
    kind = name.rstrip("0123456789")
    return (
        model is not None
        and not model.options
        and model.architecture == ARCHITECTURES.get(kind)
        and f"{kind}{model.latent_dim}" == name
    )


def disagreeing(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that follow from the data alone and yet do not agree."""
    return table[(table["kind"] == DATA) & table["agrees"].ne(True)]


# Degrees, by manifold: rotation by 1 degree, shift by 1 pixel in x, in y.
ANGLES_DEG = {
    "conv16": {"rotation": 52.6, "shift_x": 39.1, "shift_y": 36.5},
    "conv32": {"rotation": 51.7, "shift_x": 33.4, "shift_y": 30.6},
    "conv128": {"rotation": 36.1, "shift_x": 22.5, "shift_y": 21.6},
    "fc16": {"rotation": 69.3, "shift_x": 53.1, "shift_y": 49.4},
    "fc32": {"rotation": 60.4, "shift_x": 42.5, "shift_y": 41.7},
    "fc128": {"rotation": 49.1, "shift_x": 36.0, "shift_y": 32.1},
    "pca16_uncentred": {"rotation": 79.91265935, "shift_x": 53.24442082, "shift_y": 43.26125340},
    "pca32_uncentred": {"rotation": 64.12156873, "shift_x": 21.95676102, "shift_y": 27.87724944},
    "pca128_uncentred": {"rotation": 41.75315958, "shift_x": 13.39090512, "shift_y": 12.48038237},
}
STEPS = {"rotation": 1.0, "shift_x": 1.0, "shift_y": 1.0}

# Largest and smallest singular value of the decoder's Jacobian, and its numerical rank.
JACOBIANS = {
    "conv16": (8.67, 2.67, 16),
    "conv32": (6.93, 1.10, 32),
    "conv128": (8.37, 0.405, 128),
    "fc16": (14.19, 1.99, 16),
    "fc32": (11.16, 0.480, 32),
    "fc128": (8.96, 4.07e-6, 125),
}

# Of PCA of the training images. Errors are mean squared ones per pixel on the test images, for k components.
PCA_TEST_MSE = {16: 0.0204462, 32: 0.0151424, 128: 0.0063124}  # pixels in [0, 1]
PCA2_TEST_MSE = 0.1844  # k = 2, pixels in [-1, 1]
COMPONENTS = {0.90: 84, 0.95: 187, 0.99: 459}  # that hold this share of the variance
PARTICIPATION_RATIO = 7.897  # of the variances
