"""What a study leaves to its dataset: the example images and the choices among them, where ``params.yaml`` has null."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# By dataset: a name, and a split with an index in it. Named by class and index, those of FashionMNIST as in the
# reference study.
EXAMPLES = {
    "FashionMNIST": {
        "pullover": "train/5",
        "sneaker": "train/6",
        "trousers_71": "train/71",
        "trousers_74": "train/74",
    },
    "MNIST": {"five_0": "train/0", "zero_1": "train/1", "four_2": "train/2", "one_3": "train/3"},
    "CIFAR10": {"frog_0": "train/0", "truck_1": "train/1", "truck_2": "train/2", "deer_3": "train/3"},
    "digits": {"zero_0": "train/0", "one_1": "train/1", "two_2": "train/2", "eight_8": "train/8"},
}
OTHERS = {f"train_{index}": f"train/{index}" for index in range(4)}  # of a dataset whose classes are not known here

SAMPLE = 1000  # images of a sample, or all if the split has fewer
PAIRS = 100  # of random test images, or as many as there are


def complete(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of ``params.yaml`` with each null that stands for a default replaced by it.

    ``examples`` are those of the dataset, ``interpolate.pairs`` the first two examples and the next two,
    ``invariance.pictures`` the first two, and each single ``example`` is the first.
    """
    filled = {key: dict(value) if isinstance(value, Mapping) else value for key, value in values.items()}
    if "examples" in filled and filled["examples"] is None:
        filled["examples"] = dict(EXAMPLES.get(str(_section(filled, "dataset").get("name")), OTHERS))
    names = list(_section(filled, "examples"))
    pairs = [names[i : i + 2] for i in range(0, min(4, len(names) - 1), 2)]
    _fill(_section(filled, "interpolate"), "pairs", {"_".join(pair): pair for pair in pairs})
    _fill(_section(filled, "tangents"), "example", names[:1])
    invariance = _section(filled, "invariance")
    _fill(invariance, "pictures", names[:2])
    for study in ("step_study", "epoch_study"):
        if isinstance(invariance.get(study), Mapping):
            invariance[study] = dict(invariance[study])
            _fill(invariance[study], "example", names[:1])
    return filled


def _section(values: dict[str, Any], key: str) -> dict[str, Any]:
    section = values.get(key)
    return section if isinstance(section, dict) else {}


def _fill(section: dict[str, Any], key: str, default: Any) -> None:
    if key in section and section[key] is None and default:
        section[key] = default[0] if key == "example" else default
