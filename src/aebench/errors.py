"""The errors that a user can mend: one line each, printed without a traceback."""


class UserError(Exception):
    """Something outside the code is wrong; the message says what was found and what to do, in one line."""


class ConfigError(UserError):
    """A value in params.yaml is not allowed; the message names the key, what was found and what is allowed."""


class DataError(UserError):
    """A data file is missing, damaged or cannot be fetched."""


class FileError(UserError):
    """A result cannot be written."""


class TrainingError(UserError):
    """A run cannot be trained or its files cannot be used."""


class Diverged(TrainingError):
    """Training or a metric has left the finite numbers: a result to report, not a fault of files or settings."""
