"""Data sets as folders of images, a folder a class. No link is followed out of them."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from aebench.data.raw_dataset import SPLITS, Images, RawDataset, check_classes, check_size, reason, stays_inside
from aebench.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".pgm", ".ppm", ".webp")
FORMATS = ("PNG", "JPEG", "BMP", "PPM", "WEBP")


def read(path: Path, log: Callable[[str], None]) -> RawDataset:
    """Read a folder of images: `train/CLASS/…` and `test/CLASS/…`, or `CLASS/…`; grey where all images are.

    Args:
        path: the folder.
        log: gets a line about what is not used.

    Raises:
        DataError: the first thing that is wrong.
    """
    folders = _folders(path)
    parted = {"train", "test"} <= {folder.name for folder in folders}
    if parted and len(folders) > 2:
        others = ", ".join(folder.name for folder in folders if folder.name not in SPLITS)
        raise DataError(f"{path}: found {others} beside train and test, allowed: no other folder")
    roots = {split: path / split for split in SPLITS} if parted else {"": path}
    names = {part: tuple(folder.name for folder in _folders(root)) for part, root in roots.items()}
    if len(set(names.values())) > 1:
        differing = ", ".join(sorted(set(names["train"]) ^ set(names["test"])))
        raise DataError(f"{path}: found {differing} in one of train and test alone, allowed: the same classes in both")
    classes = next(iter(names.values()))
    check_classes(path, classes)
    reader = _Reader(path)
    images = {part: [reader.images(root / name) for name in classes] for part, root in roots.items()}
    if reader.left_out:
        log(f"{path.name}: {reader.left_out} files are no {', '.join(SUFFIXES)} and are not used")
    labels = {
        part: np.repeat(np.arange(len(classes)), [len(of_class) for of_class in found])
        for part, found in images.items()
    }
    stacked = {
        part: reader.stack([image for of_class in found for image in of_class]) for part, found in images.items()
    }
    return RawDataset(stacked, labels, classes, {f"{path.name}/": reader.sha256.hexdigest()})


def _folders(path: Path) -> list[Path]:
    found = [entry for entry in sorted(path.iterdir()) if entry.is_dir() and not entry.name.startswith(".")]
    for entry in found:
        stays_inside(entry, path)
    return found


class _Reader:
    """Reads images, all of one size; grey as long as each of them is."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.left_out = 0
        self.sha256 = hashlib.sha256()
        self._first: tuple[Path, tuple[int, int]] | None = None
        self._grey = True

    def images(self, folder: Path) -> list[Images]:
        """Those of one class, `[H, W, 3]` each, in the order of their names."""
        found = []
        for path in sorted(folder.iterdir()):
            if path.name.startswith("."):
                continue
            if path.suffix.lower() not in SUFFIXES:
                self.left_out += 1
                continue
            stays_inside(path, self.root)
            found.append(self._image(path))
        if not found:
            raise DataError(f"{folder}: found no images, allowed: files whose names end in {', '.join(SUFFIXES)}")
        return found

    def stack(self, images: Sequence[Images]) -> Images:
        """As `[N, C, H, W]`, C = 1 where all images are grey."""
        channels = 1 if self._grey else 3
        return np.stack([image[..., :channels].transpose(2, 0, 1) for image in images])

    def _image(self, path: Path) -> Images:
        from PIL import Image

        if not path.is_file():
            raise DataError(f"{path}: found no file, allowed: an image; delete it")
        try:
            content = path.read_bytes()
            with Image.open(path, formats=FORMATS) as image:
                self._check_size(path, image.size)
                if image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA"):
                    raise DataError(f"{path}: found pixels of the kind {image.mode}, allowed: grey or RGB, 8 bits each")
                if image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema() != (255, 255):
                    raise DataError(f"{path}: found transparent pixels, allowed: opaque ones")
                pixels = np.array(image.convert("RGB"))
        except DataError:
            raise
        except Exception as error:  # readers of images fail in many ways
            raise DataError(f"{path} cannot be read as an image: {reason(error)}; mend or delete it") from None
        self.sha256.update(f"{path.relative_to(self.root).as_posix()}\0{len(content)}\0".encode() + content)
        self._grey = self._grey and bool((pixels == pixels[..., :1]).all())
        return pixels

    def _check_size(self, path: Path, size: tuple[int, int]) -> None:
        """Before anything is decoded."""
        check_size(path, (3, *size[::-1]))
        if self._first is None:
            self._first = path, size
        first, expected = self._first
        if size != expected:
            raise DataError(
                f"{path}: found {size[0]} × {size[1]} pixels, allowed: {expected[0]} × {expected[1]}, as {first} has"
            )
