"""How long a training lasts, in steps, in epochs and in rows of its learning curve."""

from __future__ import annotations

import math
from typing import NamedTuple

MOST_ROWS = 100  # of a learning curve


class Length(NamedTuple):
    """The length of a training.

    Attributes
    ----------
    batches : int
        Steps of a whole epoch.
    steps : int
        Of the training.
    epochs : int
        That are begun; the last one ends with the last step.
    epochs_a_row : int
        After how many epochs a row of the learning curve is written.
    """

    batches: int
    steps: int
    epochs: int
    epochs_a_row: int


def length(images: int, batch_size: int, epochs: int | None, steps: int | None, min_steps: int) -> Length:
    """The length of a training on so many images, from one of the numbers of epochs and of steps.

    ``min_steps`` lengthens a training given in epochs by whole epochs.
    """
    batches = max(1, min(math.ceil(images / batch_size), images // 2))  # none of a single image
    if steps is None:
        assert epochs is not None
        steps = batches * max(epochs, math.ceil(min_steps / batches))
    begun = math.ceil(steps / batches)
    return Length(batches, steps, begun, math.ceil(begun / MOST_ROWS))
