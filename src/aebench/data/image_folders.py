"""Data sets as folders of images, a folder a class. No link is followed out of them."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from unicodedata import normalize

import numpy as np

from aebench.data import image_files
from aebench.data.image_files import SUFFIXES
from aebench.data.raw_dataset import SPLITS, Images, RawDataset, check_classes, split_of, stays_inside
from aebench.data.sources import checksum
from aebench.errors import DataError

# What systems and programs leave in folders, beside all that is hidden.
LEFTOVERS = (
    *("__macosx", "icon\r", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information"),
    *("@eadir", "#recycle", "lost+found", "__pycache__"),
)


def read(path: Path, log: Callable[[str], None]) -> RawDataset:
    """Read a folder of images: `train/CLASS/…`, `test/CLASS/…` and maybe `validation/CLASS/…`, or `CLASS/…`.

    The images are grey where all of them are. Those in folders below a class are of that class.

    Args:
        path: the folder.
        log: gets a line for each thing that was taken for another.

    Raises:
        DataError: the first thing that is wrong.
    """
    tree = _Tree(path)
    top = tree.unpacked(path, log)
    splits = {split: tree.unpacked(folder, log) for split, folder in _splits(tree, top, log).items()}
    folders = {split: _classes(tree, folder, log) for split, folder in splits.items()}
    names = {split: set(of_split) for split, of_split in folders.items()}
    train = names["train"]
    if differing := (train ^ names.get("test", train)) | (names.get("validation", train) - train):
        raise DataError(
            f"{path}: found {', '.join(sorted(differing))} in one of {' and '.join(splits)} alone, "
            "allowed: the same classes in both"
        )
    classes = tuple(sorted(train))
    check_classes(path, classes)
    reader = _Reader(path)
    images = {split: list[Images]() for split in splits}
    labels = {split: list[int]() for split in splits}
    for split, of_split in folders.items():
        for label, name in enumerate(classes):
            of_class = [reader.image(file, folder) for folder in of_split.get(name, ()) for file in tree.images(folder)]
            if not of_class and name in of_split:
                raise _no_images(of_split[name][0])
            images[split] += of_class
            labels[split] += [label] * len(of_class)
        if not images[split]:
            raise _no_images(splits[split])
    for what, count in reader.notes.items():
        log(f"{count} images {what}")
    return RawDataset(
        {split: reader.stack(of_split) for split, of_split in images.items()},
        {split: np.array(of_split) for split, of_split in labels.items()},
        classes,
        tree.not_used(),
    )


def sha256(path: Path) -> str:
    """The SHA-256 of all images in a folder with their names, in hex; of none to which a link leads out of it.

    Raises:
        DataError: a folder is there twice, by a link, or a link to a folder leads out.
        OSError: one cannot be read.
    """
    digest = hashlib.sha256()
    for image in filter(Path.is_file, _Tree(path).images(path)):  # a pipe would be waited for
        with suppress(DataError):
            stays_inside(image, path)
            digest.update(os.fsencode(f"{checksum(image)}  {image.relative_to(path).as_posix()}\n"))
    return digest.hexdigest()


def _no_images(folder: Path) -> DataError:
    return DataError(f"{folder}: found no images, allowed: files whose names end in {', '.join(SUFFIXES)}")


def _splits(tree: "_Tree", top: Path, log: Callable[[str], None]) -> dict[str, Path]:
    """The folder of each split; all of it is `train` where its folders are classes."""
    folders = tree.folders(top)
    splits = [(split, folder) for split in SPLITS for folder in folders if split_of(folder.name) == split]
    others = ", ".join(folder.name for folder in folders if not split_of(folder.name))
    of_splits, named = " and ".join(folder.name for _, folder in splits), {split for split, _ in splits}
    if splits and "train" not in named and not others:
        raise DataError(
            f"{top}: found {of_splits} without train, allowed: train, test and maybe validation, or classes"
        )
    if "train" not in named or (len(splits) == 1 and others):  # a train may be a class beside a bus
        return {"train": top}
    if others:
        raise DataError(f"{top}: found {others} beside {of_splits}, allowed: no other folder")
    if len(named) < len(splits):
        raise DataError(f"{top}: found {of_splits}, of which two are the same split, allowed: one folder a split")
    for split, folder in splits:
        if folder.name != split:
            log(f"{folder.name} is the {split} split")
    return dict(splits)


def _classes(tree: "_Tree", split: Path, log: Callable[[str], None]) -> dict[str, list[Path]]:
    """The folders of each class: several, where their names differ in the form of Unicode alone."""
    classes: dict[str, list[Path]] = {}
    for folder in tree.folders(split):
        inside = [split_of(below.name) for below in tree.folders(folder)]
        if "train" in inside and all(inside):
            raise DataError(f"{folder}: found splits inside a class, allowed: classes inside the splits; swap the two")
        classes.setdefault(normalize("NFC", _name(folder)), []).append(folder)
    for name, folders in classes.items():
        if len(folders) > 1:
            log(f"{len(folders)} folders in {split.name} that differ in the form of Unicode alone are the class {name}")
    return classes


def _name(folder: Path) -> str:
    """Its name, which is UTF-8 on a disk, also where the locale knows other letters or none but ASCII's."""
    try:
        return os.fsencode(folder.name).decode()
    except UnicodeDecodeError:
        return folder.name


class _Tree:
    """The folders and files of a data set, without what systems leave there, and what is not used of them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._entries: dict[Path, tuple[list[Path], list[Path]]] = {}
        self._seen: dict[Path, Path] = {}
        self._leftovers = 0
        self._used = set[Path]()

    def folders(self, folder: Path) -> list[Path]:
        return self._listed(folder)[0]

    def unpacked(self, folder: Path, log: Callable[[str], None]) -> Path:
        """The folder itself, or the lone one inside it that holds what should lie there."""
        while len(inside := self.folders(folder)) == 1 and self.folders(inside[0]):
            if split_of(inside[0].name) not in (None, split_of(folder.name)):
                break
            folder = inside[0]
            log(f"the folders in {folder.relative_to(self.root)} are taken, one level deeper than they should lie")
        return folder

    def images(self, folder: Path) -> Iterator[Path]:
        """The images of a class, by name, then those in the folders below it."""
        below, files = self._listed(folder)
        for path in files:
            if path.suffix.lower() in SUFFIXES:
                self._used.add(path)
                yield path
        for inside in below:
            yield from self.images(inside)

    def not_used(self) -> tuple[str, ...]:
        """Kinds of files with their numbers, e.g. `2 .txt`."""
        others = [path for _, files in self._entries.values() for path in files if path not in self._used]
        kinds = Counter(
            "images that lie in no class" if path.suffix.lower() in SUFFIXES else path.suffix or "without a suffix"
            for path in others
        )
        if self._leftovers:
            kinds["hidden or left there by a system"] = self._leftovers
        return tuple(f"{count} {kind}" for kind, count in kinds.items())

    def _listed(self, folder: Path) -> tuple[list[Path], list[Path]]:
        """Folders and files in a folder, by name."""
        if folder not in self._entries:
            stays_inside(folder, self.root)
            if (other := self._seen.setdefault(folder.resolve(), folder)) != folder:
                raise DataError(f"{folder}: found the folder {other} again, allowed: each once; delete the link")
            folders, files = self._entries[folder] = [], []
            for entry in sorted(folder.iterdir()):
                if entry.name.startswith(".") or entry.name.casefold() in LEFTOVERS:
                    self._leftovers += 1
                else:
                    (folders if entry.is_dir() else files).append(entry)
        return self._entries[folder]


class _Reader:
    """Reads images, all of one size."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.notes = Counter[str]()
        self._first: tuple[Path, tuple[int, ...]] | None = None
        self._channels = 1

    def image(self, path: Path, of_class: Path) -> Images:
        """As `[C, H, W]`, C = 1 where it is grey; `of_class` is the folder of its class."""
        stays_inside(path, self.root)
        if not path.is_file():
            raise DataError(f"{path}: found no file, allowed: an image; delete it")
        content = path.read_bytes()
        pixels = image_files.read(path, content, lambda note: self.notes.update([note]))
        if self._first is None:
            self._first = path, pixels.shape[1:]
        first, (height, width) = self._first
        if pixels.shape[1:] != (height, width):
            raise DataError(
                f"{path}: found {pixels.shape[2]} × {pixels.shape[1]} pixels, "
                f"allowed: {width} × {height}, as {first} has"
            )
        if path.parent != of_class:
            self.notes.update(["lie in folders below their class"])
        self._channels = max(self._channels, len(pixels))
        return pixels

    def stack(self, images: list[Images]) -> Images:
        """As `[N, C, H, W]`, C = 1 where all images that were read are grey."""
        return np.stack([np.broadcast_to(image, (self._channels, *image.shape[1:])) for image in images])
