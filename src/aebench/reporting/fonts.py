"""Letters of any script in pictures: the fonts of this machine that have what matplotlib's own font lacks.

Where its own has all letters, as of the data sets that come along, no other is asked: the same pictures everywhere.
"""

import logging
import unicodedata
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache

from matplotlib import font_manager, rc_context
from matplotlib.ft2font import FT2Font

OWN = "DejaVu Sans"
# Comes with matplotlib, and has a sign for each script in place of its letters.
PLACEHOLDERS = "Last Resort"


@contextmanager
def drawing(texts: Iterable[str]) -> Iterator[None]:
    """Pictures drawn within have the letters of these texts, as far as a font has them, and boxes for the others."""
    families, _ = _matching_families(_foreign(texts))
    log = logging.getLogger("matplotlib.font_manager")
    level = log.level
    log.setLevel(logging.ERROR)  # it would tell of each of these fonts that it has no bold letters
    try:
        with rc_context({"font.family": [OWN, *families]}), warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"Glyph .* missing from")
            yield
    finally:
        log.setLevel(level)


def lacking(texts: Iterable[str]) -> str:
    """The letters of these texts that no font of this machine has."""
    _, letters = _matching_families(_foreign(texts))
    return "".join(sorted(letters))


def _foreign(texts: Iterable[str]) -> frozenset[str]:
    """The letters that matplotlib's own font lacks."""
    has = _letters(font_manager.findfont(OWN))
    return frozenset(letter for text in texts for letter in text if ord(letter) not in has and _is_drawn(letter))


def _is_drawn(letter: str) -> bool:
    """Whether a letter leaves ink: no control, no joiner, no selector of a variation."""
    return unicodedata.category(letter) not in ("Cc", "Cf") and not 0xFE00 <= ord(letter) <= 0xFE0F


@cache
def _matching_families(letters: frozenset[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """The families that have the most of these letters, one after the other; and the letters that none has."""
    has: dict[str, set[str]] = {}
    if letters:
        for entry in font_manager.fontManager.ttflist:
            if (
                PLACEHOLDERS not in entry.name
                and entry.style == "normal"
                and str(entry.weight) in ("400", "normal", "regular")
            ):
                of_font = _letters(entry.fname)
                has.setdefault(entry.name, set()).update(letter for letter in letters if ord(letter) in of_font)
    families: list[str] = []
    while letters and has:
        # Among equals a font without serifs goes well with matplotlib's own, and names decide the rest.
        best = max(sorted(has), key=lambda name: (len(has[name] & letters), "sans" in name.lower()))
        if not has[best] & letters:
            break
        families.append(best)
        letters -= has[best]
    return tuple(families), letters


def _letters(path: str) -> set[int]:
    """The letters of a font; none of one that cannot be read."""
    try:
        return set(FT2Font(path).get_charmap())
    except (OSError, RuntimeError):
        return set()
