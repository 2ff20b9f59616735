"""Every row of the tables of docs/adding-a-dataset.md, tried."""

import io
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pytest
from conftest import ROOT
from numpy.typing import NDArray
from PIL import Image
from test_user_datasets import archive, parted, pixels, read, refused, whole

from aebench.data.datasets import Splits, load
from aebench.data.description import describe

Array = NDArray[np.generic]
ROWS: dict[str, Callable[[Path], None]] = {}


def row(text: str) -> Callable[[Callable[[Path], None]], Callable[[Path], None]]:
    """A test of the row of the page's tables that begins with `text`."""

    def register(test: Callable[[Path], None]) -> Callable[[Path], None]:
        assert text not in ROWS
        ROWS[text] = test
        return test

    return register


def rows() -> list[str]:
    page = (ROOT / "docs" / "adding-a-dataset.md").read_text()
    return [cell for cell in re.findall(r"^\| (.+?) \|", page, re.MULTILINE) if not re.match("---|in an? ", cell)]


def test_every_row_has_its_test() -> None:
    assert sorted(rows()) == sorted(ROWS)


@pytest.mark.parametrize("text", rows())
def test_a_row(tmp_path: Path, text: str) -> None:
    ROWS[text](tmp_path)


def put(
    folder: Path, *below: str, count: int = 20, suffix: str = "png", image: Image.Image | None = None, **how: object
) -> None:
    """Images in each of some folders below `folder`, different ones or all the same."""
    for place in below:
        target = folder / place
        target.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            (image or Image.fromarray(pixels(6, 5))).save(target / f"{number:03}.{suffix}", **how)  # type: ignore[arg-type]


def splits(folder: Path, said: list[str] | None = None) -> Splits:
    return load(read(folder, said=said), "mine", 0)


def sizes(found: Splits) -> tuple[int, int, int]:
    return len(found.train), len(found.validation), len(found.test)


def only_line(said: list[str], words: str) -> None:
    assert sum(words in line for line in said) == 1, said


# Folders


@row("`CLASS/…` alone")
def alone(folder: Path) -> None:
    put(folder / "mine", "a", "b", count=30)
    said: list[str] = []
    found = splits(folder, said)
    assert sizes(found) == (50, 0, 10)
    assert found.test.labels.tolist() == [0] * 5 + [1] * 5
    assert read(folder) == read(folder)
    assert said == [
        "used: 60 images of 2 classes (a 30, b 30); not used: nothing",
        "train 50 images, test 10 images (a sixth of each class)",
    ]


@row("`train/CLASS/…` and `test/CLASS/…`")
def named_splits(folder: Path) -> None:
    for train, test in (("train", "test"), ("Train", "TEST"), ("TRAIN", "testing"), ("training", "Test")):
        put(folder / train / "mine", f"{train}/a", f"{train}/b")
        put(folder / train / "mine", f"{test}/a", f"{test}/b", count=7)
        said: list[str] = []
        found = splits(folder / train, said)
        assert sizes(found) == (40, 0, 14)
        first = np.array(Image.open(folder / train / "mine" / test / "b" / "000.png"))
        assert np.array_equal(found.test.images[7].reshape(6, 5), first)
        assert (f"{test} is the test split" in said) == (test != "test")


@row("`val/CLASS/…` beside them")
def validation(folder: Path) -> None:
    for name in ("val", "valid", "Validation"):
        put(folder / name / "mine", "train/a", "train/b", "test/a", "test/b")
        put(folder / name / "mine", f"{name}/a", count=12)
        content = read(folder / name)
        for fraction in (0, 0.1, 0.5):
            found = load(content, "mine", fraction)
            assert sizes(found) == (40, 12, 40)
            assert found.own_validation
        first = np.array(Image.open(folder / name / "mine" / name / "a" / "000.png"))
        assert np.array_equal(found.validation.images[0].reshape(6, 5), first)
    put(folder / "val" / "mine", "val/c")
    refused(folder / "val", "found c in one of train and validation and test alone")


@row("`train/CLASS/…` and `val/CLASS/…` alone")
def no_test(folder: Path) -> None:
    put(folder / "mine", "train/a", "train/b", count=30)
    put(folder / "mine", "val/a", "val/b")
    said: list[str] = []
    assert sizes(splits(folder, said)) == (50, 40, 10)
    assert said[0] == "val is the validation split"
    assert said[-1] == (
        "train 50 images, validation 40 images (its own; data of params.yaml holds out no other), "
        "test 10 images (a sixth of each class)"
    )


@row("images in folders below a class")
def below_a_class(folder: Path) -> None:
    put(folder / "mine", "a", "b", "a/session2", "a/session2/evening", "b/session2", count=12)
    said: list[str] = []
    assert sizes(splits(folder, said)) == (50, 0, 10)
    only_line(said, "used: 60 images of 2 classes (a 36, b 24); not used: nothing")
    only_line(said, "36 images lie in folders below their class")
    (folder / "mine" / "b" / "again").symlink_to(folder / "mine" / "b")
    refused(folder, "b/again: found the folder .*/b again, allowed: each once")


@row("everything one folder too deep")
def too_deep(folder: Path) -> None:
    put(folder / "mine", "mine/photos/train/train/a", "mine/photos/train/train/b", "mine/photos/test/a")
    put(folder / "mine", "mine/photos/test/b", "__MACOSX/mine")
    said: list[str] = []
    assert sizes(splits(folder, said)) == (40, 0, 40)
    assert said[:3] == [
        f"the folders in {inner} are taken, one level deeper than they should lie"
        for inner in ("mine", "mine/photos", "mine/photos/train/train")
    ]


@row("hidden files, `__MACOSX`, `@eaDir`, `Thumbs.db`, `desktop.ini` and their like")
def leftovers(folder: Path) -> None:
    mine = folder / "mine"
    put(mine, "train/a", "train/b", "test/a", "test/b")
    before = read(folder)
    put(mine, "__MACOSX/train/a", "train/__MACOSX", "train/a/@eaDir/000.png", "test/b/.ipynb_checkpoints", "@eaDir")
    for name in ("._000.png", "Thumbs.db", "desktop.ini", ".DS_Store"):
        (mine / "train" / "a" / name).touch()
    said: list[str] = []
    assert read(folder, said=said) == before
    only_line(said, "not used: 9 hidden or left there by a system")


@row("other files, and images that lie in no class")
def not_used(folder: Path) -> None:
    put(folder / "mine", "a", "b", count=30)
    put(folder, "mine", count=3)
    for name in ("README", "a/notes.txt", "a/1.heic", "a/2.heic"):
        (folder / "mine" / name).touch()
    said: list[str] = []
    read(folder, said=said)
    only_line(said, "; not used: 3 images that lie in no class, 1 without a suffix, 2 .heic, 1 .txt")


@row("class names in two Unicode forms")
def unicode_forms(folder: Path) -> None:
    composed, decomposed = (normalize(form, "café") for form in ("NFC", "NFD"))
    put(folder / "splits" / "mine", f"train/{composed}", "train/bar", f"test/{decomposed}", "test/bar")
    content = read(folder / "splits")
    assert describe(content).classes == ("bar", composed)
    assert sizes(load(content, "mine", 0)) == (40, 0, 40)
    put(folder / "beside" / "mine", composed, decomposed, "bar")
    said: list[str] = []
    assert describe(read(folder / "beside", said=said)).classes == ("bar", composed)
    only_line(said, f"2 folders in mine that differ in the form of Unicode alone are the class {composed}")
    only_line(said, "(bar 20, café 40)")
    labels = np.array([composed, decomposed, "bar"])[np.arange(180) % 3]
    assert describe(read(archive(folder, whole() | {"labels": labels}))).classes == ("bar", composed)


@row("PNG, JPEG, BMP, PGM, PPM, WebP, TIFF, GIF")
def formats(folder: Path) -> None:
    image = Image.fromarray(np.full((6, 5), 200, np.uint8))
    suffixes = ("png", "PNG", "jpg", "JPEG", "bmp", "pgm", "ppm", "tif", "tiff", "TIFF", "gif", "webp")
    for suffix in suffixes:
        colour = image.convert("RGB") if suffix == "ppm" else image
        put(folder / "mine", f"a/{suffix}", f"b/{suffix}", count=4, suffix=suffix, image=colour)
    content = read(folder)
    assert sum(sizes(load(content, "mine", 0))) == 8 * len(suffixes)
    assert describe(content).shape == (1, 6, 5)
    assert set(np.unique(load(content, "mine", 0).train.images)) == {200}
    Image.new("L", (5, 7)).save(folder / "mine" / "b" / "tiff" / "x.tif")
    refused(folder, "x.tif: found 5 × 7 pixels, allowed: 5 × 6, as ")


@row("grey, colour, palettes, black and white, CMYK, opaque RGBA")
def kinds_of_pixels(folder: Path) -> None:
    red = Image.new("RGB", (5, 6), (255, 0, 0))
    put(folder / "mine", "a", "b", count=30, image=Image.new("1", (5, 6), 1))
    assert (describe(read(folder)).shape, set(np.unique(splits(folder).train.images))) == ((1, 6, 5), {255})
    for mode, suffix in (("P", "png"), ("P", "gif"), ("RGBA", "png"), ("RGBA", "tif"), ("CMYK", "tif")):
        put(folder / "mine", f"a/{mode}", f"b/{mode}", suffix=suffix, image=red.convert(mode))
    said: list[str] = []
    found = splits(folder, said)
    assert found.shape == (3, 6, 5)
    assert np.unique(found.train.images.reshape(-1, 3, 30)[:, :, 0], axis=0).tolist() == [[255, 0, 0], [255, 255, 255]]
    only_line(said, "40 images converted from CMYK to RGB")


@row("photographs with an EXIF orientation")
def orientation(folder: Path) -> None:
    upright = Image.fromarray(np.repeat(np.array([[200], [100], [0]], np.uint8), [2, 2, 4], 0).repeat(6, 1))
    turned = upright.transpose(Image.Transpose.ROTATE_90)  # and shown turned back, which is what 6 says
    exif = Image.Exif()
    exif[0x0112] = 6
    put(folder / "mine", "a", "b", image=upright)
    for suffix in ("jpg", "png", "webp", "tif"):
        how = {"quality": 100} if suffix in ("jpg", "webp") else {}
        put(folder / "mine", f"a/{suffix}", f"b/{suffix}", suffix=suffix, image=turned, exif=exif, **how)
    said: list[str] = []
    found = splits(folder, said)
    assert found.shape == (1, 8, 6)
    expected = np.array(upright, np.int64).ravel()
    assert np.abs(found.train.images.numpy() - expected).max() <= 12  # JPEG loses a little
    only_line(said, "160 images turned upright, as their EXIF orientation says")


def png(values: Array) -> bytes:
    """A PNG of 16 bits, which Pillow writes in grey alone."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    colour = {1: 0, 2: 4, 3: 2, 4: 6}[values.shape[2]]
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in values)
    header = struct.pack(">IIBBBBB", *values.shape[1::-1], 16, colour, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def tiff(values: Array) -> bytes:
    """A TIFF of 16 bits and three channels."""
    height, width, channels = values.shape
    data = values.astype("<u2").tobytes()
    tags = ((256, width), (257, height), (258, 16), (259, 1), (262, 2), (273, 8), (277, channels), (279, len(data)))
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags if tag != 258)
    bits = struct.pack("<HHII", 258, 3, channels, 8 + len(data))
    entries = entries[:24] + bits + entries[24:]
    after = 8 + len(data) + 2 * channels
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    return b"II*\0" + struct.pack("<I", after) + data + struct.pack("<HHH", 16, 16, 16) + directory


@row("more than 8 bits, several pictures in one file, transparent pixels")
def refused_images(folder: Path) -> None:
    place = folder / "mine" / "a"
    put(folder / "mine", "a", "b", count=30)
    deep = np.random.default_rng(0).integers(0, 4096, (6, 5, 4))
    for name, content in {
        **{f"{channels}.png": png(deep[..., :channels]) for channels in (1, 2, 3, 4)},
        "16.ppm": b"P6 5 6 65535\n" + deep[..., :3].astype(">u2").tobytes(),
        "12.ppm": b"P6 5 6 4095\n" + deep[..., :3].astype(">u2").tobytes(),
        "12.pgm": b"P5 5 6 4095\n" + deep[..., 0].astype(">u2").tobytes(),
        "words.ppm": b"P3 5 6 4095\n" + b" ".join(b"%d" % value for value in deep[..., :3].ravel()),
        "words.pgm": b"P2 5 6 4095\n" + b" ".join(b"%d" % value for value in deep[..., 0].ravel()),
        "rgb.tif": tiff(deep[..., :3]),
    }.items():
        (place / name).write_bytes(content)
        refused(folder, f"{re.escape(name)}: found samples of more than 8 bits, allowed: 8, 0 .black. to 255; save it")
        (place / name).unlink()
    for dtype in (np.uint16, np.int32, np.float32):
        Image.fromarray(deep[..., 0].astype(dtype)).save(place / "x.tif")
        refused(folder, "x.tif: found samples of more than 8 bits")
    (place / "x.tif").unlink()
    several = [Image.fromarray(pixels(6, 5)) for _ in range(3)]
    for suffix in ("gif", "png", "webp", "tif"):
        several[0].save(place / f"x.{suffix}", save_all=True, append_images=several[1:])
        refused(folder, f"x.{suffix}: found several pictures in one file, allowed: one")
        (place / f"x.{suffix}").unlink()
    several[0].save(place / "x.jpg", "MPO", save_all=True, append_images=several[1:])  # as telephones make them
    read(folder)
    Image.new("RGBA", (5, 6), (0, 0, 0, 100)).save(place / "x.png")
    refused(folder, "x.png: found transparent pixels, allowed: opaque ones")


@row("`test` or `val` without `train`, two spellings of one split, a class beside splits, splits inside a class")
def refused_folders(folder: Path) -> None:
    for number, (below, message) in enumerate(
        {
            ("test/a", "test/b"): "found test without train",
            ("test/a", "val/a", "val/b"): "found val and test without train",
            ("train/a", "Train/a", "test/a"): "found Train and train and test, of which two are the same split",
            ("train/a", "test/a", "val/a", "valid/a"): "found .*val and valid and test, of which two are the same",
            ("train/a", "test/a", "extra"): "found extra beside train and test, allowed: no other folder",
            ("a/train", "a/test", "b/train", "b/test"): "mine/a: found splits inside a class",
        }.items()
    ):
        put(folder / str(number) / "mine", *below, count=1)
        refused(folder / str(number), message)
    put(folder / "mine", "train", "bus", "valid", count=30)
    refused(folder, "found bus beside train and valid, allowed: no other folder")
    (folder / "mine" / "valid").rename(folder / "mine" / "ship")
    assert describe(read(folder)).classes == ("bus", "ship", "train")


# Archives


def as_usual(**changed: Array) -> dict[str, Array]:
    return whole() | changed


def same(folder: Path, arrays: dict[str, Array], usual: dict[str, Array], said: str = "") -> bytes:
    """The content of an archive, which is that of the usual one and gets a line."""
    lines: list[str] = []
    found, expected = (read(archive(folder, these), said=lines) for these in (arrays, usual))
    if said:
        only_line(lines, said)
    hashes = [describe(content).files["mine.npz"].encode() for content in (found, expected)]
    assert found.replace(hashes[0], hashes[1]) == expected
    return found


@row("`images`, `labels`")
def undivided(folder: Path) -> None:
    arrays = whole(180)
    found = splits(archive(folder, arrays))
    assert sizes(found) == (150, 0, 30)
    assert found.test.labels.bincount().tolist() == [10, 10, 10]
    same(folder, {"X": arrays["images"], "Labels": arrays["labels"]}, arrays, "X and Labels are images and labels")
    refused(archive(folder, arrays | {"x": arrays["images"]}), "found the arrays images and x, allowed: one of them")
    refused(archive(folder, arrays | parted()), "found the arrays images, .*, allowed: train_images, .* or images")


@row("`train_images`, `train_labels`, `test_images`, `test_labels`")
def divided(folder: Path) -> None:
    arrays = parted()
    found = splits(archive(folder, arrays))
    assert sizes(found) == (150, 0, 30)
    assert np.array_equal(found.train.images.reshape(-1, 6, 5), arrays["train_images"])
    assert np.array_equal(found.test.labels, arrays["test_labels"])
    refused(archive(folder, {k: v for k, v in arrays.items() if k != "test_labels"}), "found the arrays test_images, ")
    del arrays["train_images"], arrays["train_labels"]
    refused(archive(folder, arrays), "found the arrays test_images, test_labels, allowed")


def keras(arrays: dict[str, Array]) -> dict[str, Array]:
    other = {"images": "x", "labels": "y"}
    return {f"{other[what]}_{split}": array for name, array in arrays.items() for split, what in [name.split("_")]}


@row("`x_train`, `y_train`, `x_test`, `y_test`")
def names_of_keras(folder: Path) -> None:
    arrays = parted()
    same(folder, keras(arrays), arrays, "x_test and y_test are images and labels of test")
    refused(archive(folder, keras(arrays) | arrays), "found the arrays x_train and train_images, allowed: one of them")


@row("`val_images`, `val_labels`, or `x_val`, `y_val` beside them")
def validation_arrays(folder: Path) -> None:
    arrays = parted() | {"validation_images": pixels(12, 6, 5), "validation_labels": np.zeros(12, int)}
    content = read(archive(folder, arrays))
    found = load(content, "mine", 0.1)
    assert sizes(found) == (150, 12, 30)
    assert np.array_equal(found.validation.images.reshape(-1, 6, 5), arrays["validation_images"])
    short = {name.replace("validation", "val"): array for name, array in arrays.items()}
    same(folder, short, arrays, "val_images and val_labels are images and labels of validation")
    same(folder, keras(short), arrays, "x_val and y_val are images and labels of validation")
    small = {name: array[:9] if name.startswith("train") else array for name, array in arrays.items()}
    refused(archive(folder, small), "found 9 train images, allowed: at least 10")
    few = arrays | {"validation_images": pixels(9, 6, 5), "validation_labels": np.zeros(9, int)}
    refused(archive(folder, few), "found 9 validation images, allowed: at least 10")


@row("`classes`")
def names_of_classes(folder: Path) -> None:
    named = as_usual(classes=np.array(["cat", "dog", "emu"]))
    assert describe(read(archive(folder, named))).classes == ("cat", "dog", "emu")
    same(folder, named | {"classes": np.array([b"cat", b"dog", b"emu"])}, named)
    refused(archive(folder, named | {"classes": np.array(["cat", "dog", "emu", "fox"])}), "0 images of the class fox")
    refused(
        archive(folder, named | {"classes": np.array([b"\xff", b"b", b"c"])}), "classes: found bytes that are no te"
    )


@row("other arrays")
def other_arrays(folder: Path) -> None:
    said: list[str] = []
    read(archive(folder, as_usual(weights=np.ones(3), notes=np.array("x"))), said=said)
    only_line(said, "not used: the array notes, the array weights")


@row("images `[N, H, W]`, `[N, C, H, W]` or `[N, H, W, C]`")
def axes(folder: Path) -> None:
    grey, colour = whole(), whole(180, 3, 6, 5)
    same(folder, grey | {"images": grey["images"][:, None]}, grey)
    same(folder, grey | {"images": grey["images"][..., None]}, grey)
    last = colour["images"].transpose(0, 2, 3, 1)
    same(folder, colour | {"images": last}, colour)
    opaque = np.concatenate([last, np.full((180, 6, 5, 1), 255, np.uint8)], 3)
    same(folder, colour | {"images": opaque}, colour)
    same(folder, colour | {"images": opaque.transpose(0, 3, 1, 2)}, colour)
    same(folder, colour | {"images": opaque / 255}, colour)
    opaque[7, 3, 2, 3] = 254
    refused(archive(folder, colour | {"images": opaque}), "images: found transparent pixels, allowed: opaque ones")
    said: list[str] = []
    assert describe(read(archive(folder, whole(180, 3, 6, 3)), said=said)).shape == (3, 6, 3)
    only_line(said, r"images: 180 × 3 × 6 × 3 is taken as [N, C, H, W]")
    assert describe(read(archive(folder, whole(180, 4, 4, 3)))).shape == (3, 4, 4)


@row("images of uint8")
def bytes_as_they_are(folder: Path) -> None:
    arrays = whole()
    said: list[str] = []
    found = splits(archive(folder, arrays), said)
    assert len(said) == 2
    assert found.train.images.max() == 255
    dark = splits(archive(folder, arrays | {"images": arrays["images"] // 16}), said)
    assert dark.train.images.max() == 15
    only_line(said, "the images are dark: their brightest pixel is 15 of 255")


@row("images of bool, or of numbers from 0 to 1")
def shares(folder: Path) -> None:
    arrays = whole()
    binary = arrays["images"] > 127
    expected = arrays | {"images": np.where(binary, 255, 0).astype(np.uint8)}
    for dtype in (bool, np.uint8, np.int64, np.float16, np.float64):
        line = f"images: numbers of type {np.dtype(dtype)} are taken as 0 (black) to 1 (white)"
        same(folder, arrays | {"images": binary.astype(dtype)}, expected, line)
    for dtype in (np.float16, np.float32, np.float64):
        same(folder, arrays | {"images": (arrays["images"] / 255).astype(dtype)}, arrays, "0 (black) to 1 (white)")

    for off in (-0.4, 0.4):
        near = np.clip((arrays["images"] + off) / 255, 0, 1)
        same(folder, arrays | {"images": near}, arrays)


@row("images of whole numbers to 255, in any other type")
def whole_numbers(folder: Path) -> None:
    arrays = whole()
    for dtype in (np.int16, np.uint16, np.int64, np.uint64, np.float16, np.float64):
        line = f"images: numbers of type {np.dtype(dtype)} are taken as 0 (black) to 255 (white)"
        same(folder, arrays | {"images": arrays["images"].astype(dtype)}, arrays, line)
    apart = parted()
    apart_wide = {name: array.astype(float) if "images" in name else array for name, array in apart.items()}
    apart_wide["test_images"] = apart["test_images"]
    same(folder, apart_wide, apart, "train_images, test_images: numbers of type float64, uint8 are taken as 0 (black)")


@row("images of whole numbers to 65535")
def sixteen_bits(folder: Path) -> None:
    arrays = whole()
    for dtype in (np.uint16, ">u2", np.int32, np.float64):
        deep = arrays["images"].astype(dtype) * 257
        same(folder, arrays | {"images": deep}, arrays, "are taken as 0 (black) to 65535 (white)")


@row("images of other numbers")
def other_numbers(folder: Path) -> None:
    random = np.random.default_rng(0)
    for high, white in ((16, 255), (4095, 65535), (127, 255), (32767, 65535), (256, 65535)):
        for dtype in (np.uint16, np.float64):
            values = random.integers(0, high + 1, (180, 6, 5)).astype(dtype)
            values[0, 0, 0] = high
            refused(
                archive(folder, as_usual(images=values)),
                f"images: found whole numbers up to {high} of type .*, of which white may be {high} or {white}; divide",
            )
    for values, found in (
        (random.random((180, 6, 5)) * 2 - 1, "numbers from -0.99.* to 0.99.* of type float64"),
        (random.random((180, 6, 5)) * 255, "numbers from .* to 25.* of type float64"),
        (np.full((180, 6, 5), np.nan), "numbers from nan to nan of type float64"),
        (np.full((180, 6, 5), np.inf), "numbers from inf to inf of type float64"),
        (random.integers(0, 2**20, (180, 6, 5)), "whole numbers from .* to 1.04.* of type int64"),
        (random.integers(-128, 128, (180, 6, 5)).astype(np.int8), "whole numbers from -128 to 127 of type int8"),
        (np.full((180, 6, 5), "x"), "values of type <U1"),
        (random.random((180, 6, 5)) + 1j, "values of type complex128"),
    ):
        message = f"images: found {found}, allowed: bool, numbers from 0 to 1, or whole ones from 0 to 255"
        refused(archive(folder, as_usual(images=values)), message)


@row("labels from 0, `[N]`, `[N, 1]` or `[1, N]`")
def shapes_of_labels(folder: Path) -> None:
    arrays = whole()
    same(folder, arrays | {"labels": arrays["labels"][:, None]}, arrays)
    same(folder, arrays | {"labels": arrays["labels"][None].astype(np.uint8)}, arrays)
    refused(archive(folder, as_usual(labels=np.arange(179) % 3)), "labels: found 179, allowed: one for each of the 180")
    refused(archive(folder, as_usual(labels=np.full((180, 2), 1))), "labels: found 180 × 2, allowed: one for each")


@row("other whole numbers as labels, also as floats")
def any_whole_numbers(folder: Path) -> None:
    arrays = whole()
    same(
        folder,
        arrays | {"labels": arrays["labels"].astype(float)},
        arrays,
        "float64 are taken as the whole numbers 0 to 2",
    )
    same(folder, arrays | {"labels": arrays["labels"] > 0}, arrays | {"labels": (arrays["labels"] > 0) * 1})
    said: list[str] = []
    for values in ((1, 2, 3), (0, 5, 10**15), (7.0, 8.0, 90.0)):
        content = read(archive(folder, arrays | {"labels": np.array(values)[arrays["labels"]]}), said=said)
        names = tuple(str(int(value)) for value in values)
        assert describe(content).classes == names
        assert np.bincount(load(content, "mine", 0).train.labels).tolist() == [50, 50, 50]
        only_line(said, f"labels: found {', '.join(names)}, which are taken as 3 classes of these names")
    named = arrays | {"classes": np.array(["cat", "dog", "emu"])}
    same(
        folder,
        named | {"labels": arrays["labels"] + 1},
        named,
        "found 1, 2, 3, which are taken as the classes in their",
    )
    # The numbers are the same in all splits, also where a split lacks one.
    apart = parted() | {"validation_images": pixels(10, 6, 5), "validation_labels": np.full(10, 2)}
    from_1 = {name: array + 1 if "labels" in name else array for name, array in apart.items()}
    assert set(load(read(archive(folder, from_1)), "mine", 0).validation.labels.tolist()) == {2}


@row("labels as text")
def text(folder: Path) -> None:
    names = np.array(["dog", "cat", "emu"])
    arrays = whole()
    content = read(archive(folder, arrays | {"labels": names[arrays["labels"]]}))
    assert describe(content).classes == ("cat", "dog", "emu")
    named = arrays | {"classes": names}
    same(folder, named | {"labels": names[arrays["labels"]]}, named)
    same(folder, named | {"labels": names.astype("S")[arrays["labels"]]}, named)
    unknown = np.array(["dog", "cat", "gnu"])[arrays["labels"]]
    refused(archive(folder, named | {"labels": unknown}), "found the label gnu, allowed: one of classes")
    mixed = parted() | {"test_labels": names[parted()["test_labels"]]}
    refused(archive(folder, mixed), "train_labels, test_labels: found numbers and text, allowed: one of them")


@row("labels one-hot, `[N, C]`")
def one_hot(folder: Path) -> None:
    arrays = whole()
    for dtype in (np.uint8, bool, np.float32):
        hot = np.eye(3, dtype=dtype)[arrays["labels"]]
        same(folder, arrays | {"labels": hot}, arrays, "labels: 180 × 3 is taken as one-hot, a column a class")
    hot[3] = 0
    refused(archive(folder, arrays | {"labels": hot}), "labels: found 180 × 3, allowed: one for each of the 180 images")


@row("negative labels, fractions, labels without a name in `classes`")
def refused_labels(folder: Path) -> None:
    labels = np.arange(180) % 3
    for wrong, message in (
        (labels - 1, "found the label -1, which may be a class or mean that there is none, allowed: 0 or more"),
        (labels / 2, "found values of type float64, allowed: whole numbers, or text"),
        (np.where(labels, np.nan, labels), "found values of type float64, allowed: whole numbers, or text"),
        (np.where(labels, np.inf, labels), "found values of type float64, allowed: whole numbers, or text"),
        (labels.astype(np.uint64) + 2**63, "found the label 9.2.*e.18, allowed: less than"),
        (labels.astype("datetime64[s]"), "found values of type datetime64.s., allowed: whole numbers, or text"),
    ):
        refused(archive(folder, as_usual(labels=wrong)), f"labels: {message}")
    other = parted() | {"test_labels": np.full(30, 9)}
    refused(archive(folder, other), "found 0 train images of the class 9, allowed: at least 2")
    two = as_usual(classes=np.array(["a", "b"]))
    refused(archive(folder, two), "found the label 2, allowed: 0 to 1, one for each class")


@row("Python objects")
def objects(folder: Path) -> None:
    names = np.array(["cat", "dog", "emu"], dtype=object)
    for changed in ({"classes": names}, {"labels": names[np.arange(180) % 3]}):
        refused(archive(folder, as_usual(**changed)), "holds Python objects, which are not unpickled")


@row("any order of bytes and of axes in memory, packed or not")
def orders(folder: Path) -> None:
    arrays = whole(180, 3, 6, 5)
    fortran = {"images": np.asfortranarray(arrays["images"]), "labels": arrays["labels"].astype(">i4")}
    expected = load(read(archive(folder, arrays)), "mine", 0)
    with zipfile.ZipFile(folder / "mine.npz", "w") as stored:
        for name, array in fortran.items():
            content = io.BytesIO()
            np.save(content, array)
            with stored.open(f"{name}.npy", "w", force_zip64=True) as member:
                member.write(content.getvalue())
    found = splits(folder)
    assert np.array_equal(found.train.images, expected.train.images)
    assert np.array_equal(found.test.labels, expected.test.labels)
