"""The user's own data sets: what they may be, and what each mistake is answered with."""

import hashlib
import io
import os
import re
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from aebench.data.datasets import fetch, known_datasets, load
from aebench.data.description import describe
from aebench.data.user_datasets import find
from aebench.errors import DataError

Array = NDArray[np.generic]
NOISE = np.random.default_rng(0)
CLASSES = ("circle", "square", "cross $_1^2$")


def pixels(images: int, *shape: int) -> NDArray[np.uint8]:
    return NOISE.integers(0, 256, (images, *shape), dtype=np.uint8)


def whole(images: int = 180, *shape: int) -> dict[str, Array]:
    return {"images": pixels(images, *(shape or (6, 5))), "labels": np.arange(images) % 3}


def parted() -> dict[str, Array]:
    test = {f"test_{name}": array for name, array in whole(30).items()}
    return {f"train_{name}": array for name, array in whole(150).items()} | test


def archive(folder: Path, arrays: dict[str, Array], name: str = "mine") -> Path:
    folder.mkdir(exist_ok=True)
    np.savez_compressed(folder / f"{name}.npz", **arrays)  # type: ignore[arg-type]
    return folder


def images(
    folder: Path, *, name: str = "mine", splits: tuple[str, ...] = ("train", "test"), colour: bool = False
) -> Path:
    for split in splits:
        for label in CLASSES:
            target = folder / name / split / label
            target.mkdir(parents=True)
            for number in range(10 if split == "test" else 40):
                Image.fromarray(pixels(6, 5, 3) if colour else pixels(6, 5)).save(target / f"{number:03}.png")
    return folder


def read(folder: Path, name: str = "mine", said: list[str] | None = None) -> bytes:
    return fetch(name, folder / "raw", None, (said if said is not None else []).append, [folder])


def refused(folder: Path, message: str, name: str = "mine") -> None:
    with pytest.raises(DataError, match=message) as caught:
        read(folder, name)
    assert "\n" not in str(caught.value)


def test_an_archive_with_its_own_splits(tmp_path: Path) -> None:
    arrays = parted() | {"classes": np.array(CLASSES)}
    content = read(archive(tmp_path, arrays))
    splits = load(content, "mine", 0)
    about = describe(content)
    assert (about.shape, about.classes, about.binarization) == ((1, 6, 5), CLASSES, "none")
    assert list(about.files) == ["mine.npz"]
    assert np.array_equal(splits.train.images.reshape(-1, 6, 5), arrays["train_images"])
    assert np.array_equal(splits.test.images.reshape(-1, 6, 5), arrays["test_images"])
    assert np.array_equal(splits.test.labels, arrays["test_labels"])
    assert content == read(tmp_path)


def test_images_without_splits_are_split_by_class_and_always_alike(tmp_path: Path) -> None:
    arrays = whole(180)
    splits = load(read(archive(tmp_path, arrays)), "mine", 0)
    assert (len(splits.train), len(splits.test)) == (150, 30)
    assert splits.test.labels.bincount().tolist() == [10, 10, 10]
    rows = [row.numpy().tobytes() for row in (*splits.train.images, *splits.test.images)]
    assert sorted(rows) == sorted(image.tobytes() for image in arrays["images"])
    assert [row.numpy().tobytes() for row in splits.train.images] != rows[-150:]
    assert read(tmp_path) == read(archive(tmp_path, arrays))


def test_binarised_pixels_by_name(tmp_path: Path) -> None:
    folder = archive(tmp_path, whole())
    assert [known_datasets([folder])[name].binarization for name in ("mine", "mine_binary")] == ["none", "stochastic"]
    splits = load(read(folder, "mine_binary"), "mine_binary", 0)
    assert splits.train.dynamic_binarization
    assert set(splits.test.pixels(slice(None)).unique().tolist()) == {0.0, 1.0}
    grey = load(read(folder), "mine", 0)
    assert np.array_equal(grey.train.images, splits.train.images)
    for name, way in (("mine_binary_fixed", "fixed"), ("mine_binary_threshold", "threshold")):
        assert known_datasets([folder])[name].binarization == way
        binary = load(read(folder, name), name, 0)
        assert (binary.binarization, binary.train.dynamic_binarization) == (way, False)
        for split in (binary.train, binary.test):
            assert set(split.pixels(slice(None)).unique().tolist()) == {0.0, 1.0}
    whites = load(read(folder, "mine_binary_threshold"), "mine_binary_threshold", 0).train.images == 255
    assert np.array_equal(whites, grey.train.images >= 128)


@pytest.mark.parametrize("colour", [False, True])
def test_a_folder_of_images(tmp_path: Path, colour: bool) -> None:
    folder = images(tmp_path, colour=colour)
    (folder / "mine" / "train" / "circle" / ".hidden").touch()
    (folder / "mine" / "train" / "circle" / "notes.txt").touch()
    said: list[str] = []
    content = read(folder, said=said)
    about = describe(content)
    assert about.shape == (3 if colour else 1, 6, 5)
    assert about.classes == tuple(sorted(CLASSES))
    assert said == [
        "used: 150 images of 3 classes (circle 50, cross $_1^2$ 50, square 50); "
        "not used: 1 .txt, 1 hidden or left there by a system",
        "train 120 images, test 30 images",
    ]
    splits = load(content, "mine", 0)
    assert (len(splits.train), len(splits.test)) == (120, 30)
    path = folder / "mine" / "test" / about.classes[0] / "000.png"
    expected = np.atleast_3d(np.array(Image.open(path))).transpose(2, 0, 1)
    assert np.array_equal(splits.test.images[0].reshape(about.shape), expected)
    path.write_bytes((path.parent / "001.png").read_bytes())
    assert describe(read(folder)).files != about.files


def test_a_folder_of_classes_is_split(tmp_path: Path) -> None:
    splits = load(read(images(tmp_path, splits=("",)), said=[]), "mine", 0)
    assert (len(splits.train), len(splits.test)) == (99, 21)


def test_grey_images_saved_in_colour_are_grey(tmp_path: Path) -> None:
    folder = images(tmp_path)
    for path in (folder / "mine").rglob("*.png"):
        Image.open(path).convert("RGB").save(path)
    assert describe(read(folder)).shape == (1, 6, 5)


MISTAKES: list[tuple[Callable[[dict[str, Array]], dict[str, Array]], str]] = [
    (lambda a: {"images": a["images"]}, r"mine.npz: found the arrays images, allowed: train_images, train_labels"),
    (lambda a: a | {"images": pixels(180, 6, 5, 2)}, "found 180 × 6 × 5 × 2, allowed: .* C 1 or 3"),
    (lambda a: a | {"images": pixels(180)}, "images: found 180, allowed"),
    (lambda a: a | {"images": pixels(0, 6, 5)}, "images: found no images, allowed: at least one"),
    (lambda a: {"images": np.zeros((2, 1025, 1024), np.uint8), "labels": np.arange(2)}, "at most 1,048,576 pixels"),
    (lambda a: {"images": np.zeros((2, 2048, 2048), np.uint8), "labels": np.arange(2)}, "at most 1,048,576 pixels"),
    (lambda a: a | {"labels": np.zeros(180, int)}, "found 1 classes, allowed: at least 2"),
    (lambda a: a | {"labels": (np.arange(180) == 7) * 1}, "found 1 images of the class 1, allowed: at least 3"),
    (lambda a: a | {"classes": np.array(["a", "b", "a"])}, "found the class a twice, allowed: each once"),
    (lambda a: a | {"classes": np.array(["a", "b", "\n"])}, r"found the class '\\n', allowed: 1 to 40 printable"),
    (lambda a: a | {"classes": np.arange(3)}, "classes: found int64 of 1 dimensions, allowed: a list of text"),
    (lambda a: {name: array[:30] for name, array in a.items()}, "found 6 test images, allowed: at least 10"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), MISTAKES, ids=[message[:40] for _, message in MISTAKES])
def test_a_mistake_in_an_archive_is_one_line(
    tmp_path: Path, change: Callable[[dict[str, Array]], dict[str, Array]], message: str
) -> None:
    refused(archive(tmp_path, change(whole())), message)


def test_splits_of_different_sizes_and_classes(tmp_path: Path) -> None:
    refused(
        archive(tmp_path, parted() | {"test_images": pixels(30, 5, 6)}), "found images of .* and .*, allowed: one size"
    )
    arrays = parted() | {"test_labels": np.zeros(30, int)}
    refused(archive(tmp_path, arrays), "found 0 test images of the class 1, allowed: at least 1")
    arrays = parted() | {"train_labels": np.where(np.arange(150) == 7, 2, np.arange(150) % 2)}
    refused(archive(tmp_path, arrays), "found 1 train images of the class 2, allowed: at least 2")


def header(shape: tuple[int, ...], dtype: str = "|u1") -> bytes:
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, {"descr": dtype, "fortran_order": False, "shape": shape})
    return content.getvalue()


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (header((10**12, 28, 28)) + b"\0" * 999, "claims the shape .*, which its size contradicts"),
        (header((-1, -999)) + b"\0" * 999, "which its size contradicts"),
        (header((99,), "|O") + b"\0" * 792, "holds Python objects, which are not unpickled"),
        (b"\x93NUMPY\x09\x00" + b"\0" * 100, "has a header of version 9.0"),
        (b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 9999, "cannot be read as a NumPy archive"),
        (b"", "cannot be read as a NumPy archive"),
    ],
)
def test_nothing_is_unpickled_or_allocated_on_a_header_s_word(tmp_path: Path, member: bytes, message: str) -> None:
    archive(tmp_path, whole())
    with zipfile.ZipFile(tmp_path / "mine.npz") as old:
        labels = old.read("labels.npy")
    with zipfile.ZipFile(tmp_path / "mine.npz", "w", zipfile.ZIP_DEFLATED) as new:
        new.writestr("images.npy", member)
        new.writestr("labels.npy", labels)
    tracemalloc.start()
    refused(tmp_path, message)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000


@pytest.mark.parametrize(
    ("compression", "message"),
    [
        (zipfile.ZIP_DEFLATED, "images: found 10, allowed:"),  # as it is: its word counts for nothing
        (zipfile.ZIP_LZMA, "neither stored nor deflated"),
    ],
)
def test_an_archive_does_not_unpack_beyond_its_size(tmp_path: Path, compression: int, message: str) -> None:
    with zipfile.ZipFile(tmp_path / "mine.npz", "w", compression) as new:
        new.writestr("images.npy", header((10,)) + b"\0" * 10)
        new.writestr("labels.npy", header((10,)) + b"\0" * 10)
    content = bytearray((tmp_path / "mine.npz").read_bytes())
    entry = content.index(b"PK\x01\x02")  # in the directory at its end the size unpacked stands at byte 24
    content[entry + 24 : entry + 28] = struct.pack("<I", 2**31)
    (tmp_path / "mine.npz").write_bytes(content)
    tracemalloc.start()
    refused(tmp_path, message)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000


def test_damaged_archives_are_one_line(tmp_path: Path) -> None:
    whole_file = (archive(tmp_path, whole()) / "mine.npz").read_bytes()
    (tmp_path / "mine.npz").write_bytes(b"<html>not here</html>")
    refused(tmp_path, "mine.npz cannot be read as a NumPy archive")
    random, lines = np.random.default_rng(1), set()
    for _ in range(200):
        content = bytearray(whole_file)
        for place in random.integers(0, len(content), 5):
            content[place] = random.integers(256)
        (tmp_path / "mine.npz").write_bytes(content[: random.integers(1, len(content) + 1)])
        try:
            read(tmp_path)
        except DataError as error:
            lines.add(len(str(error).splitlines()))
    assert lines == {1}


def test_images_of_mixed_sizes(tmp_path: Path) -> None:
    path = images(tmp_path) / "mine" / "train" / "circle" / "007.png"
    Image.new("L", (7, 6)).save(path)
    refused(tmp_path, re.escape(f"{path}: found 7 × 6 pixels, allowed: 5 × 6, as "))


def test_unreadable_images(tmp_path: Path) -> None:
    path = images(tmp_path) / "mine" / "train" / "circle" / "007.png"
    good = path.read_bytes()
    for content in (b"", b"not an image", good[:60], good[:40] + b"\0\0\0\0" + good[44:]):
        path.write_bytes(content)
        refused(tmp_path, f"{re.escape(str(path))} cannot be read as an image: .*; mend or delete it")
    path.unlink()
    os.mkfifo(path)
    refused(tmp_path, f"{re.escape(str(path))}: found no file, allowed: an image")


def test_a_small_file_that_claims_a_huge_picture(tmp_path: Path) -> None:
    path = images(tmp_path) / "mine" / "train" / "circle" / "000.png"

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    for side in (2_000, 20_000):
        size = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
        path.write_bytes(
            b"\x89PNG\r\n\x1a\n" + size + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
        )
        tracemalloc.start()
        with pytest.raises(DataError, match=re.escape(str(path))) as caught:
            read(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
        tracemalloc.stop()
        assert "\n" not in str(caught.value)


def test_folders_that_do_not_fit(tmp_path: Path) -> None:
    folder = images(tmp_path) / "mine"
    (folder / "extra").mkdir()
    refused(tmp_path, "found extra beside train and test, allowed: no other folder")
    (folder / "extra").rename(folder / "test" / "extra")
    refused(tmp_path, "found extra in one of train and test alone, allowed: the same classes in both")
    (folder / "train" / "extra").mkdir()
    refused(tmp_path, "train/extra: found no images, allowed: files whose names end in .png")
    for split in ("train", "test"):
        Image.new("L", (5, 6)).save(folder / split / "extra" / "0.png")
    refused(tmp_path, "mine: found 1 train images of the class extra, allowed: at least 2")
    (folder / "val").mkdir()
    refused(tmp_path, "mine/val: found no images, allowed: files whose names end in .png")


def test_no_link_leads_out(tmp_path: Path) -> None:
    folder = images(tmp_path / "datasets") / "mine"
    outside = tmp_path / "outside.png"
    Image.new("L", (5, 6)).save(outside)
    link = folder / "train" / "circle" / "zzz.png"
    link.symlink_to(outside)
    refused(tmp_path / "datasets", re.escape(f"{link} leads out of mine/, allowed: files inside it"))
    link.unlink()
    (folder / "train" / "circle").rename(tmp_path / "circle")
    (folder / "train" / "circle").symlink_to(tmp_path / "circle")
    refused(tmp_path / "datasets", "train/circle leads out of")
    (tmp_path / "datasets" / "linked").symlink_to(tmp_path / "circle")
    refused(tmp_path / "datasets", "linked leads out of datasets/", "linked")


def test_a_link_into_a_cache_of_dvcs_is_what_it_leads_to(tmp_path: Path) -> None:
    """As `dvc add` leaves files where `cache.type` is symlink; the cache may lie on another disk."""
    folder = images(tmp_path / "datasets")
    before = read(folder)
    for path in sorted((folder / "mine").rglob("*.png")):
        digest = hashlib.md5(path.read_bytes()).hexdigest()
        cached = tmp_path / "disk" / "files" / "md5" / digest[:2] / digest[2:]
        cached.parent.mkdir(parents=True, exist_ok=True)
        path.rename(cached)
        path.symlink_to(cached)
    assert read(folder) == before


def test_names(tmp_path: Path) -> None:
    archive(tmp_path, whole(), "No-Name")
    (tmp_path / "README.md").touch()
    assert set(known_datasets([tmp_path])) == set(known_datasets([]))
    archive(tmp_path, whole(), "digits")
    with pytest.raises(DataError, match=r"digits\.npz has the name of a built-in data set"):
        known_datasets([tmp_path])
    (tmp_path / "digits.npz").rename(tmp_path / "mine.npz")
    (tmp_path / "mine").mkdir()
    with pytest.raises(DataError, match=r"mine\.npz: found mine beside it, allowed: one data set a name"):
        known_datasets([tmp_path])
    (tmp_path / "mine").rename(tmp_path / "mine_binary")
    for name in ("mine_binary", "mine_binary_fixed", "mine_binary_threshold"):
        next(tmp_path.glob("mine_*")).rename(tmp_path / name)
        with pytest.raises(DataError, match=f"{name}: that is how mine with binarised pixels is called"):
            known_datasets([tmp_path])


def test_the_first_folder_wins(tmp_path: Path) -> None:
    first, second = archive(tmp_path / "a", whole(180, 4, 4)), archive(tmp_path / "b", whole(180, 6, 6))
    assert describe(fetch("mine", tmp_path, None, print, [first, second])).shape == (1, 4, 4)
    assert describe(fetch("mine", tmp_path, None, print, [tmp_path / "none", second])).shape == (1, 6, 6)


def test_few_images_are_enough(tmp_path: Path) -> None:
    arrays = {"images": pixels(400, 6, 5), "labels": np.repeat(np.arange(40), 10)}
    splits = load(read(archive(tmp_path, arrays)), "mine", 0.1)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (288, 32, 80)
    assert splits.train.labels.bincount().min() >= 2


@pytest.mark.parametrize(
    ("images", "fraction", "message"),
    [
        (75, 0.1, "found 75 .*, of which data.validation_fraction takes 8, .*; set data.validation_fraction to 0.14$"),
        (75, 0.95, "takes 69, allowed: at least 10 on both sides; set data.validation_fraction to 0.14$"),
        (14, 0.5, "found 14 training images, .* takes 7, allowed: at least 10 on both sides; add images$"),
        (24, 0.5, "found 24 training images, .* takes 0, allowed: at least 10 on both sides; add images$"),
    ],
)
def test_too_few_images_for_the_validation_split(tmp_path: Path, images: int, fraction: float, message: str) -> None:
    train, test = whole(images), whole(36)
    if images == 24:  # two of each class, which training needs
        train, test = ({"images": pixels(n, 6, 5), "labels": np.arange(n) % 12} for n in (24, 36))
    arrays = {
        f"{split}_{name}": array for split, of in (("train", train), ("test", test)) for name, array in of.items()
    }
    content = read(archive(tmp_path, arrays))
    with pytest.raises(DataError, match=message) as caught:
        load(content, "mine", fraction)
    if "set" in message:
        assert len(load(content, "mine", float(str(caught.value).split()[-1])).validation) >= 10


def test_hundreds_of_classes_are_read_in_bounded_memory(tmp_path: Path) -> None:
    labels = np.repeat(np.arange(700), 6)
    images = pixels(len(labels), 4, 4)
    tracemalloc.start()
    said: list[str] = []
    content = read(archive(tmp_path, {"images": images, "labels": labels}), said=said)
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()
    assert load(content, "mine", 0.1).classes == 700
    assert said[0] == "used: 4200 images of 700 classes (0 6, 1 6, 2 6, 3 6, 4 6, … each 6); not used: nothing"
    many = {"images": np.zeros((100_000, 1, 1), np.uint8), "labels": np.arange(100_000)}  # labels that are no classes
    refused(archive(tmp_path, many), "found 1 images of the class 0, allowed: at least 3")


def test_hundreds_of_folders_are_read(tmp_path: Path) -> None:
    content = io.BytesIO()
    Image.new("L", (4, 4), 200).save(content, "PNG")
    for label in range(120):
        (tmp_path / "mine" / f"{label:03}").mkdir(parents=True)
        for number in range(4):
            (tmp_path / "mine" / f"{label:03}" / f"{number}.png").write_bytes(content.getvalue())
    splits = load(read(tmp_path), "mine", 0.1)
    assert (splits.classes, len(splits.test)) == (120, 120)


def as_fetched(folder: Path, content: bytes) -> tuple[tuple[int, int, int] | None, int | None]:
    data = folder / "data.safetensors"
    data.write_bytes(content)
    dataset = find([folder])["mine"].as_fetched(data)
    return dataset.shape, dataset.train_images


def test_what_has_been_fetched_is_known_as_long_as_the_archive_is_the_same(tmp_path: Path) -> None:
    folder = archive(tmp_path / "datasets", whole())
    content = read(folder)
    assert as_fetched(folder, content) == ((1, 6, 5), 150)
    archive(folder, whole(180, 7, 5))
    assert as_fetched(folder, content) == (None, None)
    for damaged in (b"", content[:50], b"\xff" * 99):
        assert as_fetched(folder, damaged) == (None, None)


def test_what_has_been_fetched_is_known_as_long_as_the_folder_is_the_same(tmp_path: Path) -> None:
    folder = images(tmp_path / "datasets", splits=("train", "val", "test"))
    content = read(folder)
    assert as_fetched(folder, content) == ((1, 6, 5), None)  # its own validation images are held out, and no others
    next(iter((folder / "mine" / "train").glob("*/000.png"))).rename(
        folder / "mine" / "train" / CLASSES[0] / "other.png"
    )
    assert as_fetched(folder, content) == (None, None)


def test_a_link_that_leads_out_is_not_followed_for_what_it_holds(tmp_path: Path) -> None:
    folder = images(tmp_path / "datasets")
    before = find([folder])["mine"].files()
    (tmp_path / "secret").write_text("secret")
    (folder / "mine" / "link.png").symlink_to(tmp_path / "secret")
    assert find([folder])["mine"].files() == before
