"""Omniglot: handwritten characters of fifty alphabets, as PNG files in two zip archives."""

import io
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import torch
from numpy.typing import NDArray

from aebench.data.description import Arrays
from aebench.data.unpacking import from_zip
from aebench.randomness import generator

ARCHIVES = ("images_background.zip", "images_evaluation.zip")
ALPHABETS = (
    *("Alphabet_of_the_Magi", "Angelic", "Anglo-Saxon_Futhorc", "Arcadian", "Armenian", "Asomtavruli_(Georgian)"),
    *("Atemayar_Qelisayer", "Atlantean", "Aurek-Besh", "Avesta", "Balinese", "Bengali"),
    *("Blackfoot_(Canadian_Aboriginal_Syllabics)", "Braille", "Burmese_(Myanmar)", "Cyrillic", "Early_Aramaic"),
    *("Futurama", "Ge_ez", "Glagolitic", "Grantha", "Greek", "Gujarati", "Gurmukhi", "Hebrew"),
    *("Inuktitut_(Canadian_Aboriginal_Syllabics)", "Japanese_(hiragana)", "Japanese_(katakana)", "Kannada", "Keble"),
    *("Korean", "Latin", "Malay_(Jawi_-_Arabic)", "Malayalam", "Manipuri", "Mkhedruli_(Georgian)", "Mongolian", "N_Ko"),
    *("Ojibwe_(Canadian_Aboriginal_Syllabics)", "Old_Church_Slavonic_(Cyrillic)", "Oriya", "Sanskrit", "Sylheti"),
    *("Syriac_(Estrangelo)", "Syriac_(Serto)", "Tagalog", "Tengwar", "Tibetan", "Tifinagh", "ULOG"),
)
# Where an image lies in an archive: its alphabet, and its character with it.
_PLACE = re.compile(r"images_(?:background|evaluation)/(([^/]+)/character\d+)/\d+_\d+\.png")
# The widths of a published and of a smaller image, and of the squares that both can be cut into.
_FROM, _TO, _SQUARES = 105, 28, 420
_LARGEST_FILE = 2**20


def load(folder: Path) -> Arrays:
    """Both archives as white ink on black, 28 × 28, labelled by alphabet.

    A quarter of the drawings of each character is for testing, drawn once. The rest is in the order of a draw, too, so
    that its last images are of all alphabets.
    """
    by_member: dict[str, tuple[NDArray[np.uint8], str, int]] = {}
    for name in ARCHIVES:
        with ZipFile(folder / name) as archive:
            for member in archive.namelist():
                if place := _PLACE.fullmatch(member):
                    character, alphabet = place.groups()
                    ink = _ink(from_zip(archive, member, _LARGEST_FILE))
                    by_member[member] = smaller(ink), character, ALPHABETS.index(alphabet)
    drawings, characters, alphabets = zip(*(by_member[member] for member in sorted(by_member)), strict=True)
    train, test = _split(characters)
    images, labels = np.stack(drawings)[:, None], np.array(alphabets, np.int64)
    return {
        "train_images": images[train],
        "train_labels": labels[train],
        "test_images": images[test],
        "test_labels": labels[test],
    }


def _split(characters: Sequence[str]) -> tuple[list[int], list[int]]:
    """Which drawings, of these characters, are for training and which for testing."""
    for_testing = {character: count // 4 for character, count in Counter(characters).items()}
    train, test = list[int](), list[int]()
    for drawing in torch.randperm(len(characters), generator=generator("omniglot", "split")).tolist():
        if for_testing[characters[drawing]]:
            for_testing[characters[drawing]] -= 1
            test.append(drawing)
        else:
            train.append(drawing)
    return train, test


def _ink(content: bytes) -> NDArray[np.uint8]:
    """How much ink is where, 0 to 255; published is black ink on white paper."""
    from PIL import Image

    with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
        if image.size != (_FROM, _FROM):
            raise ValueError(f"found an image of {image.size[0]} × {image.size[1]}, allowed: {_FROM} × {_FROM}")
        paper: NDArray[np.uint8] = np.array(image.convert("L"))
        return 255 - paper


def smaller(ink: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """105 × 105 pixels as 28 × 28, each the mean over the 3.75 × 3.75 that it covers, rounded.

    The sums are of whole numbers, so they are exact, and the same on every computer.
    """
    sums = _SHARES @ ink.astype(np.float64) @ _SHARES.T
    means: NDArray[np.uint8] = np.rint(sums / (_SQUARES // _TO) ** 2).astype(np.uint8)
    return means


# How many of the squares of a new row or column lie in an old one, `[28, 105]`.
_SHARES = np.repeat(np.eye(_TO), _SQUARES // _TO, 1).reshape(_TO, _FROM, _SQUARES // _FROM).sum(2)
