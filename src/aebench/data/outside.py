"""Data sets with outside images: NAME_vs_OTHER is NAME, beside the test images of OTHER, to be told from NAME's own."""

import re
from collections.abc import Iterator, Mapping, Sequence

from aebench.data.description import BINARIZED, Pair
from aebench.data.raw_dataset import size_in_words
from aebench.errors import DataError

_VERSUS = "_vs_"


def pair(name: str, binarized: Mapping[str, bool]) -> Pair | None:
    """The two data sets of a name; None where it is the name of one, which comes first.

    Args:
        name: NAME_vs_OTHER, and then how the pixels of both are binarised, if they are: NAME_vs_OTHER_binary.
        binarized: whether its pixels are, for each data set by its name.

    Raises:
        KeyError: with the name that no data set has, the whole one or a part of it.
        DataError: the two are one, the name has two meanings, or a part of it has a form of its own.
    """
    if name in binarized:
        return None
    pairs, unknown = list[Pair](), [[name]]
    for parts, suffix in _readings(name):
        whole = Pair(*(f"{part}{suffix}" for part in parts))
        unknown.append(
            [part for part in parts if binarized.get(part, True)] or [w for w in whole if w not in binarized]
        )
        if not unknown[-1]:
            pairs.append(whole)
    if not pairs:
        part = min(unknown[1:] or unknown, key=len)[0]
        if part in binarized:
            raise DataError("allowed: how pixels are binarised once, at the end, as in NAME_vs_OTHER_binary")
        raise KeyError(part)
    if len(pairs) > 1:
        meanings = " or ".join(" and ".join(each) for each in pairs)
        raise DataError(f"which may mean {meanings}, allowed: a name with one meaning; rename one of them")
    if pairs[0].inside == pairs[0].outside:
        raise DataError("allowed: two different data sets")
    return pairs[0]


def _readings(name: str) -> Iterator[tuple[tuple[str, str], str]]:
    """Every way to read a name: its two parts, and what is said of the pixels of both."""
    for suffix in ("", *BINARIZED):
        if name.endswith(suffix):
            parts = name.removesuffix(suffix)
            for versus in re.finditer(f"(?={_VERSUS})", parts):
                yield (parts[: versus.start()], parts[versus.start() + len(_VERSUS) :]), suffix


def require_one_shape(pair: Pair, inside: Sequence[int], outside: Sequence[int]) -> None:
    """Refuse two data sets whose images have different shapes, (C, H, W).

    Raises:
        DataError: they have.
    """
    if tuple(inside) != tuple(outside):
        raise DataError(
            f"images of {size_in_words(inside)} in {pair.inside} and of {size_in_words(outside)} in {pair.outside}, "
            "allowed: one size and number of channels"
        )
