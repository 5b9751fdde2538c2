"""Errors that a person can act upon: each message names the thing, its value and the remedy."""


class LatentAtlasError(Exception):
    """Base of the errors raised on purpose; the command line prints their message without a traceback."""


class DataError(LatentAtlasError):
    """Images that are missing, damaged or not what they claim to be."""


class ModelError(LatentAtlasError):
    """An architecture that cannot be built, or that is no autoencoder."""


class CheckpointError(LatentAtlasError):
    """A file of weights that cannot be read, or that belongs to something else."""


class TrainingError(LatentAtlasError):
    """A training that cannot start or that has gone astray."""


class OutputError(LatentAtlasError):
    """A result that could not be written."""


class ParamsError(LatentAtlasError):
    """A parameter file with an unknown key, a wrong type or an impossible value."""
