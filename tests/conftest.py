"""What several tests share. Limits come first: they must be set before torch and NumPy load."""

from aebench import numerics

numerics.limit("native")

import math  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import TYPE_CHECKING  # noqa: E402

import pytest  # noqa: E402
import torch  # noqa: E402

from aebench import variants  # noqa: E402
from aebench.config import Network, Training, VariantConfig  # noqa: E402
from aebench.data import datasets  # noqa: E402
from aebench.models.autoencoder import Autoencoder, ImageSpec  # noqa: E402
from aebench.models.networks import architectures  # noqa: E402
from aebench.parsing import parse_named  # noqa: E402
from aebench.randomness import Streams, drawing_from, generator  # noqa: E402
from aebench.training.settings import parse_training  # noqa: E402

if TYPE_CHECKING:
    from checkout import Checkout
    from results import Results

ROOT = Path(__file__).resolve().parents[1]
torch.set_num_threads(1)

# Two small variants on the digits.
RESULTS = """\
datasets: [digits]
variants: [ae, cvae]
seeds: [0, 1]
numerics: native
device: cpu
data: {validation_fraction: 0.1}
network: {hidden: [32], latent_dim: 4}
training: {epochs: 2, batch_size: 64, learning_rate: 1.0e-3, select: best_validation}
models:
  ae: {kind: ae}
  cvae: {kind: cvae}
evaluation:
  importance_samples: 20
  bound_gap_images: 50
  expost: {images: 30, importance_samples: 20}
  corruption: masking
  corruption_rate: 0.3
execution: {workers: auto, source_dir: null}
tracking: {experiment: aebench}
"""


def network(architecture: str = "mlp", latent_dim: int = 3, **settings: object) -> Network:
    """A small network."""
    example = architectures()[architecture].EXAMPLE
    settings = {**example, **settings, "architecture": architecture, "latent_dim": latent_dim}
    return parse_named(architectures(), "architecture", settings, "network", default="mlp")


def protocol(**settings: object) -> Training:
    """What stands under `training`; Adam at a constant rate, where it does not say."""
    return parse_training(settings)


def block(kind: str, **settings: object) -> VariantConfig:
    """The configuration of a variant."""
    return variants.configuration({"kind": kind, **variants.kinds()[kind].EXAMPLE, **settings})


def tiny(
    kind: str,
    classes: int = 10,
    seed: int = 0,
    architecture: str = "mlp",
    shape: tuple[int, int, int] = (1, 8, 8),
    **settings: object,
) -> Autoencoder:
    """A small model of `kind`, with random weights; the training images that it has seen are random too."""
    shares = tuple((1 + label) / (classes * (classes + 1) / 2) for label in range(classes))
    with drawing_from(generator(seed, "weights")):
        model = variants.build(block(kind, **settings), network(architecture), ImageSpec(shape, shares)).eval()
    images = torch.randint(256, (20, math.prod(shape)), generator=generator("training images"), dtype=torch.uint8)
    model.before_training(images, Streams(seed))
    return model


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The emulated CPUs, which take longest, come first: one worker waits for them while another does the rest."""
    items.sort(key=lambda item: item.path.name != "test_portable.py")


@pytest.fixture(scope="session")
def digits_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "digits.safetensors"
    path.write_bytes(datasets.fetch("digits", path.parent / "raw", None, print))
    return path


@pytest.fixture(scope="session")
def digits(digits_file: Path) -> datasets.Splits:
    return datasets.load(digits_file, "digits", 0.1)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> "Checkout":
    """A checkout with the results of two small variants."""
    from checkout import checkout

    project = checkout(tmp_path_factory.mktemp("results") / "checkout")
    (project.root / "params.yaml").write_text(RESULTS)
    done = project.run("dvc", "repro", "--quiet", "report")
    assert done.returncode == 0, done.stderr
    return project


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> "Results":
    from results import make

    return make(tmp_path_factory.mktemp("small results"))
