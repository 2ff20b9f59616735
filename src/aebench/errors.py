"""The errors that a user can mend: one line each, printed without a traceback; and words for them."""

import reprlib
import sys


class UserError(Exception):
    """Something outside the code is wrong; the message says what was found and what to do, in one line."""


class ConfigError(UserError):
    """A value in params.yaml is not allowed, or not here: one line with the key, what was found and what is allowed."""


class DataError(UserError):
    """A file of data or of results is missing, damaged or not allowed, or cannot be fetched."""


class FileError(UserError):
    """A file cannot be written or removed."""


class TrainingError(UserError):
    """A run cannot be trained or its files cannot be used."""


class Diverged(TrainingError):
    """Training or a metric has left the finite numbers: a result to report, not a fault of files or settings."""


_BRIEF = reprlib.Repr()
_BRIEF.maxstring = _BRIEF.maxlong = _BRIEF.maxother = 200


def show(value: object) -> str:
    """A value that was found, as Python would write it, in at most 60 characters."""
    try:
        text = _BRIEF.repr(value)
    except ValueError:  # Python does not write out whole numbers beyond some length
        text = f"a number of more than {sys.get_int_max_str_digits()} digits"
    return text if len(text) <= 60 else f"{text[:57]}…"


def plain(value: object, longest: int = 200) -> str:
    """Text, or an error's, in one line that a terminal can show; anything else as Python would write it."""
    if not isinstance(value, str | Exception):
        return show(value)
    text = " ".join(str(value).split()) or (show(value) if isinstance(value, str) else type(value).__name__)
    return text if text.isprintable() and len(text) <= longest else ascii(text[:longest])[:longest]
