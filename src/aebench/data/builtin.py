"""The built-in data sets: one entry each in one table."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from aebench.data.description import BINARIZED, Arrays, Binarization
from aebench.data.published import cifar10, emnist, mnist, omniglot, svhn
from aebench.data.sources import RawFile, Source, debian_package, torchvision_mirrors
from aebench.extras import require
from aebench.randomness import generator


@dataclass(frozen=True)
class Dataset:
    """One built-in data set; its fields are those of `Description`, and where its images come from."""

    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    train_images: int
    load: Callable[[Path], Arrays]
    """From the folder of raw files: `{train,test}_images` uint8 `[N, C, H, W]`, `{train,test}_labels` int64 `[N]`."""
    raw: str
    """The folder of its raw files; data sets that are made of the same files share it."""
    files: tuple[RawFile, ...] = ()
    sources: tuple[Source, ...] = ()
    binarization: Binarization = "none"


def _digits(_: Path) -> Arrays:
    require(__name__, "sklearn")
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[:, None]
    labels = digits.target.astype(np.int64)
    order = torch.randperm(len(labels), generator=generator("digits", "split")).numpy()
    test, train = order[:360], order[360:]
    return {
        "train_images": images[train],
        "train_labels": labels[train],
        "test_images": images[test],
        "test_labels": labels[test],
    }


def _folder(address: str) -> str:
    """Where the file of this address lies."""
    return address[: address.rindex("/") + 1]


_DIGITS = tuple("0123456789")

_DATASETS = {
    "fashion_mnist": Dataset(
        shape=(1, 28, 28),
        classes=(
            *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
            *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        ),
        train_images=60_000,
        load=mnist.load,
        raw="fashion_mnist",
        files=(
            RawFile(
                "train-images-idx3-ubyte",
                47_040_016,
                "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            ),
            RawFile(
                "train-labels-idx1-ubyte", 60_008, "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"
            ),
            RawFile(
                "t10k-images-idx3-ubyte", 7_840_016, "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"
            ),
            RawFile(
                "t10k-labels-idx1-ubyte", 10_008, "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"
            ),
        ),
        sources=(
            torchvision_mirrors(lambda listed: listed.FashionMNIST.mirrors),
            debian_package("dataset-fashion-mnist", "usr/share/datasets/fashion-mnist"),
        ),
    ),
    "mnist": Dataset(
        shape=(1, 28, 28),
        classes=_DIGITS,
        train_images=60_000,
        load=partial(mnist.load, suffix=".gz"),
        raw="mnist",
        files=(
            RawFile("train-images-idx3-ubyte.gz", 9_912_422, "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
            RawFile("train-labels-idx1-ubyte.gz", 28_881, "d53e105ee54ea40749a09fcbcd1e9432"),
            RawFile("t10k-images-idx3-ubyte.gz", 1_648_877, "9fb629c4189551a2d022fa330f9573f3"),
            RawFile("t10k-labels-idx1-ubyte.gz", 4_542, "ec29112dd5afa0611ce80d1b7f02629c"),
        ),
        sources=(torchvision_mirrors(lambda listed: listed.MNIST.mirrors),),
    ),
    "kmnist": Dataset(
        shape=(1, 28, 28),
        classes=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
        train_images=60_000,
        load=partial(mnist.load, suffix=".gz"),
        raw="kmnist",
        files=(
            RawFile("train-images-idx3-ubyte.gz", 18_165_135, "bdb82020997e1d708af4cf47b453dcf7"),
            RawFile("train-labels-idx1-ubyte.gz", 29_497, "e144d726b3acfaa3e44228e80efcd344"),
            RawFile("t10k-images-idx3-ubyte.gz", 3_041_136, "5c965bf0a639b31b8f53240b1b52f4d7"),
            RawFile("t10k-labels-idx1-ubyte.gz", 5_120, "7320c461ea6c1c855c0b718fb2a4b134"),
        ),
        sources=(torchvision_mirrors(lambda listed: listed.KMNIST.mirrors),),
    ),
    "emnist_letters": Dataset(
        shape=(1, 28, 28),
        classes=tuple("abcdefghijklmnopqrstuvwxyz"),
        train_images=124_800,
        load=emnist.load_letters,
        raw="emnist",
        files=(RawFile(emnist.ARCHIVE, 561_753_746, "58c8d27c78d21e728a6bc7b3cc06412e"),),
        sources=(torchvision_mirrors(lambda listed: [_folder(listed.EMNIST.url)]),),
    ),
    "omniglot": Dataset(
        shape=(1, 28, 28),
        classes=tuple(alphabet.replace("_", " ") for alphabet in omniglot.ALPHABETS),
        train_images=24_345,
        load=omniglot.load,
        raw="omniglot",
        files=(
            RawFile("images_background.zip", 9_464_212, "68d2efa1b9178cc56df9314c21c6e718"),
            RawFile("images_evaluation.zip", 6_462_886, "6b91aef0f799c5bb55b94e3f2daec811"),
        ),
        sources=(torchvision_mirrors(lambda listed: [f"{listed.Omniglot.download_url_prefix}/"]),),
    ),
    "digits": Dataset(shape=(1, 8, 8), classes=_DIGITS, train_images=1437, load=_digits, raw="digits"),
    "cifar10": Dataset(
        shape=(3, 32, 32),
        classes=(
            *("airplane", "automobile", "bird", "cat", "deer"),
            *("dog", "frog", "horse", "ship", "truck"),
        ),
        train_images=50_000,
        load=cifar10.load,
        raw="cifar10",
        files=(RawFile(cifar10.ARCHIVE, 170_498_071, "c58f30108f718f92721af3b95e74349a"),),
        sources=(torchvision_mirrors(lambda listed: [_folder(listed.CIFAR10.url)]),),
    ),
    "svhn": Dataset(
        shape=(3, 32, 32),
        classes=_DIGITS,
        train_images=73_257,
        load=svhn.load,
        raw="svhn",
        files=(
            RawFile("train_32x32.mat", 182_040_794, "e26dedcc434d2e4c54c9b2d4a06d8373"),
            RawFile("test_32x32.mat", 64_275_384, "eb5a983be6a315427106f1b164d9cef3"),
        ),
        sources=(torchvision_mirrors(lambda listed: [_folder(listed.SVHN.split_list["train"][0])]),),
    ),
}

DATASETS: Mapping[str, Dataset] = {
    **_DATASETS,
    **{
        f"{name}{suffix}": replace(grey, binarization=binarization)
        for name, grey in _DATASETS.items()
        for suffix, binarization in BINARIZED.items()
        if grey.shape[0] == 1
    },
}
