"""The data sets of the literature: small files of their formats, made here and served on loopback, become arrays."""

import gzip
import hashlib
import http.server
import io
import struct
import tarfile
import threading
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import network, protocol
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat

from aebench.config import Data, RunConfig
from aebench.data.builtin import DATASETS
from aebench.data.datasets import fetch, load
from aebench.data.description import describe
from aebench.data.published import mnist, omniglot, pickled, svhn
from aebench.data.sources import RawFile, mirrors
from aebench.data.unpacking import inflate
from aebench.errors import DataError
from aebench.training.run import train_run
from aebench.variants import configuration

Images = NDArray[np.uint8]
RANDOM = np.random.default_rng(0)
SIZES = {"train": 40, "test": 20}


def pixels(*shape: int) -> Images:
    return RANDOM.integers(0, 256, shape, np.uint8)


def labels(images: int, classes: int = 10) -> NDArray[np.int64]:
    return np.arange(images) % classes


# Files as their authors made them


def idx(array: NDArray[np.integer]) -> bytes:
    return struct.pack(f">{1 + array.ndim}I", 0x800 + array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def mnist_files(images: Mapping[str, Images]) -> dict[str, bytes]:
    files = {}
    for split, name in (("train", "train"), ("test", "t10k")):
        files[f"{name}-images-idx3-ubyte.gz"] = gzip.compress(idx(images[split][:, 0]))
        files[f"{name}-labels-idx1-ubyte.gz"] = gzip.compress(idx(labels(len(images[split]))))
    return files


def emnist_files(images: Mapping[str, Images]) -> dict[str, bytes]:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("gzip/emnist-digits-train-images-idx3-ubyte.gz", b"of no interest")
        for split, of_split in images.items():
            name = f"gzip/emnist-letters-{split}"
            lying = of_split[:, 0].transpose(0, 2, 1)
            archive.writestr(f"{name}-images-idx3-ubyte.gz", gzip.compress(idx(lying)))
            archive.writestr(f"{name}-labels-idx1-ubyte.gz", gzip.compress(idx(1 + labels(len(of_split), 26))))
    return {"gzip.zip": content.getvalue()}


def python_2_pickle(images: Images, classes: NDArray[np.int64]) -> bytes:
    """A batch of CIFAR-10, instruction by instruction as the pickler of Python 2 wrote it."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    def number(value: int) -> bytes:
        return b"K" + bytes([value]) if value < 256 else b"M" + struct.pack("<H", value)

    data = images.reshape(len(images), -1)
    of_type = b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85U\x01b\x87Rq\t"
        + b"(K\x01"
        + number(data.shape[0])
        + number(data.shape[1])
        + b"\x86cnumpy\ndtype\nq\nU\x02u1K\x00K\x01\x87Rq\x0b"
        + of_type
        + b"\x89T"
        + struct.pack("<I", data.size)
        + data.tobytes()
        + b"tb"
    )
    parts = (
        *(b"\x80\x02}q\x01(", text(b"batch_label"), b"q\x02", text(b"training batch 1 of 5"), b"q\x03"),
        *(text(b"labels"), b"q\x04]q\x05(", b"".join(number(int(value)) for value in classes), b"e"),
        *(text(b"data"), b"q\x06", array, text(b"filenames"), b"q\x0c]q\x0d("),
        *(text(b"leptodactylus_pentadactylus_s_%06d.png" % n) + b"r\x00\x01\x00\x00" for n in range(len(images))),
        b"eu.",
    )
    return b"".join(parts)


def cifar10_files(images: Mapping[str, Images]) -> dict[str, bytes]:
    content = io.BytesIO()
    classes = {split: labels(len(of_split)) for split, of_split in images.items()}
    batches = {"test_batch": (images["test"], classes["test"])} | {
        f"data_batch_{1 + part}": (images["train"][8 * part : 8 * part + 8], classes["train"][8 * part : 8 * part + 8])
        for part in range(5)
    }
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name, batch in batches.items():
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            packed = python_2_pickle(*batch)
            member.size = len(packed)
            archive.addfile(member, io.BytesIO(packed))
    return {"cifar-10-python.tar.gz": content.getvalue()}


def svhn_files(images: Mapping[str, Images]) -> dict[str, bytes]:
    files = {}
    for split, of_split in images.items():
        classes = labels(len(of_split))
        content = io.BytesIO()
        y = np.where(classes == 0, 10, classes).astype(np.uint8)[:, None]
        savemat(content, {"X": of_split.transpose(2, 3, 1, 0), "y": y}, do_compression=True)
        files[f"{split}_32x32.mat"] = content.getvalue()
    return files


def ink(number: int) -> Images:
    """A drawing of 105 × 105, ink 255 on 0, none like another."""
    return 255 * (np.random.default_rng(number).integers(0, 4, (105, 105)) == 0).astype(np.uint8)


def omniglot_files() -> dict[str, bytes]:
    """One character of each alphabet, drawn 8 times; which alphabet lies in which archive does not matter."""
    files = {}
    for part, name in enumerate(omniglot.ARCHIVES):
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            archive.writestr("images_background/", b"")
            for place, alphabet in list(enumerate(omniglot.ALPHABETS))[part::2]:
                for drawer in range(1, 9):
                    png = io.BytesIO()
                    Image.fromarray(255 - ink(100 * place + drawer)).convert("1").save(png, "PNG", compress_level=1)
                    path = f"{Path(name).stem}/{alphabet}/character01/{place:04}_{drawer:02}.png"
                    archive.writestr(path, png.getvalue())
        files[name] = content.getvalue()
    return files


# Serving them


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, Mapping[str, bytes]], None]]:
    """Puts files in the place of those of a data set: on a server on loopback, with their checksums in the table."""
    folder = tmp_path / "served"

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(folder))  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()

    def put(name: str, files: Mapping[str, bytes]) -> None:
        folder.mkdir(exist_ok=True)
        for file, content in files.items():
            (folder / file).write_bytes(content)
        raw = tuple(RawFile(file, len(content), hashlib.md5(content).hexdigest()) for file, content in files.items())
        address = f"http://127.0.0.1:{server.server_port}/"
        changed = replace(DATASETS[name], files=raw, sources=(mirrors([address]),))
        monkeypatch.setitem(DATASETS, name, changed)  # type: ignore[misc]

    yield put
    server.shutdown()
    server.server_close()


MADE: dict[str, tuple[Callable[[Mapping[str, Images]], dict[str, bytes]], int]] = {
    "mnist": (mnist_files, 10),
    "kmnist": (mnist_files, 10),
    "emnist_letters": (emnist_files, 26),
    "cifar10": (cifar10_files, 10),
    "svhn": (svhn_files, 10),
}


@pytest.mark.parametrize("name", MADE)
def test_what_was_put_into_the_files_comes_out(
    serve: Callable[[str, Mapping[str, bytes]], None], tmp_path: Path, name: str
) -> None:
    make, classes = MADE[name]
    images = {split: pixels(size, *DATASETS[name].shape) for split, size in SIZES.items()}
    files = make(images)
    serve(name, files)
    content = fetch(name, tmp_path / "raw", None, print)
    about = describe(content)
    assert (about.shape, about.classes) == (DATASETS[name].shape, DATASETS[name].classes)
    assert about.files == {file: hashlib.sha256(packed).hexdigest() for file, packed in files.items()}
    from safetensors.numpy import load as arrays_of

    arrays = arrays_of(content)
    for split, of_split in images.items():
        assert np.array_equal(arrays[f"{split}_images"], of_split)
        assert np.array_equal(arrays[f"{split}_labels"], labels(len(of_split), classes))
    assert len(about.classes) == classes
    assert fetch(name, tmp_path / "raw", None, print) == content  # from the raw files that are there


def test_omniglot_is_white_on_black_and_a_quarter_of_each_character_is_for_testing(
    serve: Callable[[str, Mapping[str, bytes]], None], tmp_path: Path
) -> None:
    serve("omniglot", omniglot_files())
    splits = load(fetch("omniglot", tmp_path / "raw", None, print), "omniglot", Data(validation_images=40))
    assert (len(splits.train) + len(splits.validation), len(splits.test)) == (300, 100)
    assert splits.test.labels.bincount().tolist() == [2] * 50
    drawn = {
        omniglot.smaller(ink(100 * place + drawer)).tobytes(): place for place in range(50) for drawer in range(1, 9)
    }
    everything = (splits.train, splits.validation, splits.test)
    found = {
        image.numpy().tobytes(): int(label)
        for split in everything
        for image, label in zip(split.images, split.labels, strict=True)
    }
    assert found == drawn
    last = load(
        fetch("omniglot", tmp_path / "raw", None, print),
        "omniglot",
        Data(validation_images=40, validation="last"),
    )
    assert len(last.validation.labels.unique()) > 20  # not of the last alphabets alone


def test_a_smaller_image_has_the_means_of_what_it_covers() -> None:
    drawing = ink(1)
    exact = np.kron(drawing.astype(float), np.ones((4, 4))).reshape(28, 15, 28, 15).mean((1, 3))
    assert np.abs(omniglot.smaller(drawing) - exact).max() <= 0.5
    assert (omniglot.smaller(np.full((105, 105), 255, np.uint8)) == 255).all()


@pytest.mark.parametrize("architecture", ["mlp", "gated_mlp", "conv"])
def test_colour_images_are_trained_on(
    serve: Callable[[str, Mapping[str, bytes]], None], tmp_path: Path, architecture: str
) -> None:
    serve("cifar10", cifar10_files({split: pixels(size, 3, 32, 32) for split, size in SIZES.items()}))
    config = RunConfig(
        variant="vae",
        model=configuration({"kind": "vae", "likelihood": "bernoulli"}),
        network=network(architecture),
        training=protocol(epochs=1, batch_size=20, learning_rate=1e-3, select="best_validation"),
        data=Data(validation_images=10),
        numerics="native",
    )
    run = train_run(config, "cifar10", 0, fetch("cifar10", tmp_path / "raw", None, print), lambda *_: None)
    assert not run.failed
    assert b'"shape": [\n      3,\n      32,\n      32\n    ]' in run.files["config.json"]


# What is refused


def test_nothing_is_parsed_that_is_not_the_published_file(
    serve: Callable[[str, Mapping[str, bytes]], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = cifar10_files({split: pixels(size, 3, 32, 32) for split, size in SIZES.items()})
    serve("cifar10", files)
    changed = bytearray(files["cifar-10-python.tar.gz"])
    changed[-1] ^= 1
    (tmp_path / "served" / "cifar-10-python.tar.gz").write_bytes(changed)
    monkeypatch.setitem(DATASETS, "cifar10", replace(DATASETS["cifar10"], load=pytest.fail))  # type: ignore[misc]
    with pytest.raises(DataError, match="MD5 differs from the published one"):
        fetch("cifar10", tmp_path / "raw", None, print)


def test_files_of_one_name_come_from_the_folder_of_their_data_set(
    serve: Callable[[str, Mapping[str, bytes]], None], tmp_path: Path
) -> None:
    mine = tmp_path / "mine"
    of_each = {}
    for name in ("mnist", "kmnist"):
        files = mnist_files({split: pixels(size, 1, 28, 28) for split, size in SIZES.items()})
        serve(name, files)
        of_each[name] = fetch(name, tmp_path / "raw", None, print)
        (mine / name).mkdir(parents=True)
        for file, content in files.items():
            (mine / name / file).write_bytes(content)
            (tmp_path / "served" / file).unlink()
    for name, content in of_each.items():
        assert fetch(name, tmp_path / "again", mine, print) == content


def test_a_file_that_is_verified_and_yet_not_of_its_format_is_one_line(
    serve: Callable[[str, Mapping[str, bytes]], None], tmp_path: Path
) -> None:
    images = {split: pixels(size, 1, 28, 28) for split, size in SIZES.items()}
    files = mnist_files(images)
    for name, content, reason in (
        ("no gzip", b"no gzip", "damaged gzip"),
        ("cut", gzip.compress(b"x" * 1000)[:-9], "breaks off"),
        ("labels", gzip.compress(idx(labels(7))), "no IDX file of bytes in 3 dimensions"),
        ("claims", gzip.compress(struct.pack(">4I", 0x803, 10**9, 28, 28)), "no IDX file"),
    ):
        serve("mnist", files | {"train-images-idx3-ubyte.gz": content})
        with pytest.raises(DataError, match=f"mnist: the files in .* cannot be read: .*{reason}") as caught:
            fetch("mnist", tmp_path / name, None, print)
        assert "\n" not in str(caught.value)


def test_what_unpacks_to_far_more_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = bytes(50_000_000)
    monkeypatch.setattr(mnist, "LIMIT", 10_000)
    monkeypatch.setattr(svhn, "LIMIT", 10_000)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(bomb, 1))
    packed = zlib.compress(bomb, 1)
    matlab = bytes(128) + struct.pack("<2I", 15, len(packed)) + packed
    del bomb
    tracemalloc.start()
    with pytest.raises(ValueError, match="no IDX file"):
        mnist.load(tmp_path, ".gz")
    with pytest.raises(ValueError, match="mine unpacks to more than 10000 bytes"):
        svhn.check_size("mine", matlab)
    assert len(inflate(gzip.compress(bytes(9999)), 99)) == 100
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()


def test_a_pickle_that_would_do_something_does_nothing(tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    evil = b"\x80\x02cos\nsystem\nU" + bytes([6 + len(str(proof))]) + f"touch {proof}".encode() + b"\x85R."
    found = pickled.read(evil)
    assert (found.function, found.arguments) == ("os system", (f"touch {proof}".encode(),))
    with pytest.raises(ValueError, match="no array of bytes"):
        pickled.array_of_bytes(found)
    assert not proof.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x80\x02}", "pickle"),
        (b"", "pickle"),
        (b"\x80\x02R.", "damaged pickle"),
        (b"\x80\x02h\x07.", "damaged pickle"),
        (b"\x80\x02K\x01K\x02b.", "damaged pickle"),
        (b"\x80\x02(icollections\nOrderedDict\n.", "the instruction INST, which data do not need"),
        (b"\x80\x02T\xff\xff\xff\x7fabc.", "expected 2147483647 bytes"),
    ],
)
def test_a_damaged_pickle_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pickled.read(content)


# The table


LISTED: dict[str, Callable[[type], object]] = {
    "mnist": lambda of: dict(of.MNIST.resources),  # type: ignore[attr-defined]
    "kmnist": lambda of: dict(of.KMNIST.resources),  # type: ignore[attr-defined]
    "emnist_letters": lambda of: {of.EMNIST.url.split("/")[-1]: of.EMNIST.md5},  # type: ignore[attr-defined]
    "omniglot": lambda of: {f"{name}.zip": md5 for name, md5 in of.Omniglot.zips_md5.items()},  # type: ignore[attr-defined]
    "cifar10": lambda of: {of.CIFAR10.filename: of.CIFAR10.tgz_md5},  # type: ignore[attr-defined]
    "svhn": lambda of: {name: md5 for split, (_, name, md5) in of.SVHN.split_list.items() if split != "extra"},  # type: ignore[attr-defined]
}


@pytest.mark.parametrize("name", LISTED)
def test_checksums_and_servers_are_torchvisions(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from aebench.data import sources
    from aebench.data.torchvision_import import torchvision

    files = DATASETS[name].files
    assert {file.name: file.checksum for file in files} == LISTED[name](torchvision.datasets)
    asked: list[str] = []

    def download(address: str, limit: int, seconds: float, silence: float) -> bytes:
        asked.append(address)
        assert limit == files[0].size
        raise DataError("is asleep")

    monkeypatch.setattr(sources, "_download", download)
    (source,) = DATASETS[name].sources
    with pytest.raises(DataError, match="is asleep"):
        source.read(files[0])
    assert asked
    assert all(address.startswith("http") and address.endswith(f"/{files[0].name}") for address in asked)
