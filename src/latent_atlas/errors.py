"""Errors that a user can correct: each message names the thing, its value and the remedy; and how it counts things."""

LONGEST = 3000  # characters of a message


def counted(number: int | str, thing: str) -> str:
    """So many things, in singular or plural: ``1 network``, ``2 networks``."""
    return f"{number} {thing}{'' if str(number) == '1' else 's'}"


class LatentAtlasError(Exception):
    """Base of the errors raised on purpose; the command line prints their message without a traceback.

    Of a longer message than :data:`LONGEST` characters, such as one that quotes a value of that size, the middle is
    left out.
    """

    def __str__(self) -> str:
        text = super().__str__()
        return text if len(text) <= LONGEST else f"{text[: LONGEST - 600]} [...] {text[-500:]}"


class DataError(LatentAtlasError):
    """Images that are missing, damaged or of another dataset."""


class ModelError(LatentAtlasError):
    """An architecture that cannot be built, or that is not an autoencoder."""


class CheckpointError(LatentAtlasError):
    """A file of weights that cannot be read, or that belongs to another model."""


class TrainingError(LatentAtlasError):
    """A training that cannot start or that diverges."""


class FileError(LatentAtlasError):
    """A file that an earlier stage wrote and that is missing, damaged or of another form."""


class OutputError(LatentAtlasError):
    """A result that could not be written."""


class ParamsError(LatentAtlasError):
    """A parameter file with an unknown key, a wrong type or an impossible value."""


class LatentAtlasWarning(UserWarning):
    """What was done in another way than usual; the commands write it to their log."""
