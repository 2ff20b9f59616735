"""One measurement, in a process of its own: `python benchmarks/measure.py WHAT SETTING [ARGUMENT…]` prints it as JSON.

SETTING is `native`, `portable`, or `avx2`: native on a CPU that has nothing wider than AVX2. `portable` measures the
article's loops and the products alone, which do not use this project, under those same limits.

The network is the source article's: 784–256–16–256–784, ReLU, batches of 64. Times of training are for an epoch of
60,000 images, times of the estimate for one image at K = 1000.
"""

import gc
import json
import math
import multiprocessing
import os
import sys
import timeit
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench import CORES, ROOT

from aebench import numerics

# What tells the libraries under torch to take a CPU for one without AVX-512.
AVX2 = {"MKL_ENABLE_INSTRUCTIONS": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}

if __name__ == "__main__":
    numerics.limit("portable" if sys.argv[2] == "portable" else "native")
    if sys.argv[2] != "native":
        os.environ.update(AVX2)

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402
from torch.utils.data import DataLoader, Dataset  # noqa: E402

from aebench.data.datasets import Split, load  # noqa: E402
from aebench.evaluation.marginal import Marginal  # noqa: E402
from aebench.models.autoencoder import ImageSpec  # noqa: E402
from aebench.models.latent_variable_model import LatentVariableModel  # noqa: E402
from aebench.models.networks.mlp import Config  # noqa: E402
from aebench.paths import Layout  # noqa: E402
from aebench.randomness import drawing_from, generator  # noqa: E402
from aebench.training.settings import parse_training  # noqa: E402
from aebench.training.train import train  # noqa: E402
from aebench.variants import build, configuration  # noqa: E402

HIDDEN, LATENT, PIXELS, BATCH, IMAGES, K = 256, 16, 784, 64, 60_000, 1000
# How much of an epoch, and how many images, are measured at a time, and how often.
BATCHES, ESTIMATED, REPEATS = 150, 40, 7


def images() -> Split:
    """The training images of Fashion-MNIST."""
    return load(Layout(ROOT).data("fashion_mnist"), "fashion_mnist", 0).train


def vae() -> LatentVariableModel:
    """The project's VAE of that network."""
    with drawing_from(generator("weights")):
        model = build(
            configuration({"kind": "vae"}),
            Config(hidden=(HIDDEN,), latent_dim=LATENT),
            ImageSpec((1, 28, 28), (1.0,)),
        )
    assert isinstance(model, LatentVariableModel)
    return model


class ArticleVAE(nn.Module):
    """The network as an article's reader would write it: images `[B, D]`, latents `[B, L]`."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.mean, self.log_variance = (
            nn.Linear(PIXELS, HIDDEN),
            nn.Linear(HIDDEN, LATENT),
            nn.Linear(HIDDEN, LATENT),
        )
        self.decoder = nn.Sequential(nn.Linear(LATENT, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, PIXELS), nn.Sigmoid())

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """μ and log σ²."""
        h = F.relu(self.hidden(x))
        return self.mean(h), self.log_variance(h)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x̂, μ and log σ²."""
        mean, log_variance = self.encode(x)
        z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        return self.decoder(z), mean, log_variance


class Pictures(Dataset[tuple[Tensor, int]]):
    """Images as torchvision's data sets give them: a PIL image each, turned into a tensor."""

    def __init__(self, split: Split) -> None:
        from aebench.data.torchvision_import import torchvision

        self.split, self.to_tensor = split, torchvision.transforms.ToTensor()

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        from PIL import Image

        picture = Image.fromarray(self.split.images[index].view(28, 28).numpy(), mode="L")
        return self.to_tensor(picture), int(self.split.labels[index])


def article_training() -> list[float]:
    """(a) A plain loop over a DataLoader with ToTensor, with all cores as torch's threads."""
    torch.set_num_threads(CORES)
    model, loader = ArticleVAE(), DataLoader(Pictures(images()), batch_size=BATCH, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)

    def batches() -> None:
        for done, (pictures, _) in enumerate(loader, start=1):
            x = pictures.view(-1, PIXELS)
            x_hat, mean, log_variance = model(x)
            reconstruction = F.binary_cross_entropy(x_hat, x, reduction="sum")
            loss = reconstruction - 0.5 * torch.sum(1 + log_variance - mean.pow(2) - log_variance.exp())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()
            if done == BATCHES:
                return

    return _epochs(batches)


def project_training() -> list[float]:
    """(b) This project's training of one run, on one core."""
    numerics.begin()
    return _epochs(_training())


def project_training_all_cores() -> list[float]:
    """(c) The same with a run on every core, per run."""
    return [seconds / CORES for seconds in _on_all_cores(_training, _epochs)]


def _training() -> Callable[[], None]:
    split = images()
    part = Split(split.images[: BATCH * BATCHES], split.labels[: BATCH * BATCHES])
    empty = Split(split.images[:0], split.labels[:0])
    block = {"epochs": 1, "batch_size": BATCH, "learning_rate": 1e-3, "select": "last"}
    model, settings = vae(), parse_training(block)

    def run() -> None:
        train(model, part, empty, settings, 0)

    return run


def products_of_training() -> list[float]:
    """(d) The matrix products of forward and backward, without the gradient of the input, at the best rate measured."""
    layers = [(PIXELS, HIDDEN), (HIDDEN, 2 * LATENT), (LATENT, HIDDEN), (HIDDEN, PIXELS)]
    forward = sum(2 * inputs * outputs for inputs, outputs in layers)
    inputs_gradient = forward - 2 * PIXELS * HIDDEN
    return [IMAGES * (2 * forward + inputs_gradient) / rate for rate in _rates()]


def article_estimate() -> list[float]:
    """(a) An image at a time, K copies of it encoded, in batches of 100 samples, with all cores as torch's threads."""
    torch.set_num_threads(CORES)
    model, x = ArticleVAE(), images().pixels(slice(0, ESTIMATED))

    @torch.no_grad()
    def estimates() -> None:
        for image in x.split(1):
            log_weights = []
            for _ in range(K // 100):
                copies = image.expand(100, -1)
                mean, log_variance = model.encode(copies)
                noise = torch.randn_like(mean)
                z = mean + torch.exp(0.5 * log_variance) * noise
                log_px = -F.binary_cross_entropy(model.decoder(z), copies, reduction="none").sum(-1)
                log_pz = -0.5 * (z.square() + math.log(2 * math.pi)).sum(-1)
                log_qz = -0.5 * (noise.square() + log_variance + math.log(2 * math.pi)).sum(-1)
                log_weights.append(log_px + log_pz - log_qz)
            (torch.logsumexp(torch.cat(log_weights), 0) - math.log(K)).item()

    return [seconds / ESTIMATED for seconds in _times(estimates)]


def project_estimate() -> list[float]:
    """(b) This project's estimate on all cores, per image."""
    return [seconds / ESTIMATED / CORES for seconds in _on_all_cores(_estimates, _times)]


def _estimates() -> Callable[[], None]:
    marginal, x = Marginal(vae().requires_grad_(False)), images().pixels(slice(0, ESTIMATED))

    def run() -> None:
        for position, image in enumerate(x.split(1)):
            _ = marginal.estimate(image, K, generator("noise", position)).marginal.iw_log_likelihood

    return run


def products_of_estimate() -> list[float]:
    """(d) The decoder's matrix products alone, at the best rate measured."""
    return [K * 2 * (LATENT * HIDDEN + HIDDEN * PIXELS) / rate for rate in _rates()]


def memory_of_estimate(count: str, samples: str) -> list[float]:
    """The MB that the peak of memory lies above model and data, in K = `samples` estimates of `count` images each.

    A peak never falls, so this is one measurement, made before the process has needed as much for anything else: the
    images are noise, since the file of real ones takes more to read.
    """
    numerics.begin()
    marginal, x = Marginal(vae().requires_grad_(False)), torch.rand(int(count), PIXELS)
    marginal.estimate(x[:1], 1, generator("noise"))  # brings torch's own code into memory
    before = _memory("VmRSS")
    for position, image in enumerate(x.split(1)):
        _ = marginal.estimate(image, int(samples), generator("noise", position)).marginal.iw_log_likelihood
    return [_memory("VmHWM") - before]


def _memory(which: str) -> float:
    """MB of this process that are in memory, now (`VmRSS`) or at their peak (`VmHWM`)."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status[which].split()[0]) / 1024


def _rates() -> list[float]:
    """Floating-point operations a second of fp32 matrix products on all cores, the best of several sizes."""
    torch.set_num_threads(CORES)
    best = []
    for _ in range(REPEATS):
        rates = []
        for rows, inner, columns in ((1024, 1024, 1024), (2048, 2048, 2048), (4096, 256, 784), (8192, 784, 256)):
            product = partial(torch.mm, torch.rand(rows, inner), torch.rand(inner, columns))
            product()
            rates.append(4 * 2 * rows * inner * columns / timeit.timeit(product, number=4))
        best.append(max(rates))
    return best


def _times(call: Callable[[], None]) -> list[float]:
    call()
    # Left to itself timeit collects no garbage, which is part of what a call costs.
    return timeit.repeat(call, setup=gc.enable, number=1, repeat=REPEATS)


def _epochs(batches: Callable[[], None]) -> list[float]:
    return [seconds * IMAGES / (BATCH * BATCHES) for seconds in _times(batches)]


def _on_all_cores(
    make: Callable[[], Callable[[], None]], times: Callable[[Callable[[], None]], list[float]]
) -> list[float]:
    """The times of `make()` in as many processes as there are cores, side by side: of each repeat the slowest."""
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(CORES), context.SimpleQueue()

    def work() -> None:
        numerics.begin()
        call = make()

        def together() -> None:
            barrier.wait()
            call()

        results.put(times(together))

    processes = [context.Process(target=work) for _ in range(CORES)]
    for process in processes:
        process.start()
    of_each = [results.get() for _ in processes]
    for process in processes:
        process.join()
    return [max(repeat) for repeat in zip(*of_each, strict=True)]


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[3:])))
