"""The source article's experiment: a VAE on Fashion-MNIST, its batch losses, and what it reconstructs and samples.

Writes into article/: `losses.csv` (the loss of each batch, summed over its images), `losses.png`,
`reconstructions.png` (originals, and below them what each epoch made of them), `samples.png` (a row from the prior).
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import copies

from aebench import config, numerics
from aebench.paths import Layout, write

if TYPE_CHECKING:
    from aebench.training.state import History

ROOT = copies.ROOT
SETTINGS = ROOT / "settings" / "article.yaml"
TARGET = ROOT / "article"


def main() -> None:
    """Fetch the data if need be, train, and write what the article shows."""
    numerics.limit(config.read_numerics(SETTINGS))
    import pandas as pd
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    from aebench.data import datasets
    from aebench.evaluation.pictures import prior_samples
    from aebench.models.autoencoder import ImageSpec
    from aebench.models.latent_variable_model import LatentVariableModel
    from aebench.randomness import generator
    from aebench.reporting.figures import batch_losses
    from aebench.reporting.sheets import image_rows
    from aebench.training.run import untrained
    from aebench.training.settings import read_params
    from aebench.training.train import train

    numerics.begin()
    params = read_params(SETTINGS)
    (name,), (variant,), (seed,) = params.datasets, params.variants, params.seeds
    settings, layout = params.run(variant), Layout(ROOT)
    source = ROOT / Path(params.execution.source_dir).expanduser() if params.execution.source_dir else None
    data = layout.scratch / f"article-{name}.safetensors"
    write(data, datasets.fetch(name, layout.raw, source, print))
    splits = datasets.load(data, name, settings.data)
    model = untrained(settings, ImageSpec(splits.shape, splits.class_shares), seed, len(splits.train))
    assert isinstance(model, LatentVariableModel)

    losses: list[tuple[int, float]] = []
    x = splits.test.pixels(slice(0, 10))

    def images(flat: Tensor) -> NDArray[Any]:
        return flat.reshape(len(flat), *splits.shape).numpy()

    rows = {"original": images(x)}

    def after_epoch(history: "History") -> None:
        epoch = len(history.epochs)
        with torch.no_grad():
            rows[f"epoch {epoch}"] = images(model.reconstruct(x))
        print(f"epoch {epoch}: {history.epochs[-1]['train_loss']:.1f} nats an image", flush=True)

    train(
        model,
        splits.train,
        splits.validation,
        settings.training,
        seed,
        after_epoch=after_epoch,
        after_batch=lambda batch: losses.append((len(batch), batch.sum().item())),
    )
    TARGET.mkdir(exist_ok=True)
    per_epoch = len(losses) // settings.training.epochs
    table = pd.DataFrame(losses, columns=["images", "loss_nats"])
    table.insert(0, "epoch", 1 + table.index // per_epoch)
    table.to_csv(TARGET / "losses.csv", index_label="batch", lineterminator="\n")
    full = table[table["images"] == settings.training.batch_size]
    last = full.loc[full["epoch"] == settings.training.epochs, "loss_nats"].quantile([0.025, 0.975])
    print(f"first batch {losses[0][1]:.0f}, last epoch's batches {last.iloc[0]:.0f} to {last.iloc[1]:.0f} (95 %)")
    samples = prior_samples(model, splits.classes, generator(seed, "prior samples"))[0]
    (TARGET / "losses.png").write_bytes(batch_losses(full["loss_nats"].to_list(), len(full) / settings.training.epochs))
    (TARGET / "reconstructions.png").write_bytes(image_rows(list(rows.items())))
    (TARGET / "samples.png").write_bytes(image_rows([("samples", images(samples))]))
    print(f"see {TARGET}")


if __name__ == "__main__":
    copies.finish(main)
