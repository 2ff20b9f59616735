"""One run's metrics on the test split."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aebench.config import Data, Evaluation
from aebench.data.datasets import load
from aebench.data.description import Binarization
from aebench.devices import available
from aebench.errors import Diverged, UserError
from aebench.evaluation.context import Context
from aebench.evaluation.metrics import Measured, all_images, chosen, metrics
from aebench.evaluation.pictures import MAPPED, neighbourhoods, pictures, plane
from aebench.evaluation.protocol import PerImage, archive, unarchive
from aebench.parsing import parse
from aebench.store import pack_files, unpack_files
from aebench.training.trained_run import StoredRun

if TYPE_CHECKING:
    from aebench.execution.progress import Report

DIVERGED = "the run has diverged, try a smaller training.learning_rate"

Arrays = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Evaluated:
    """What one run came to on N test images.

    `metrics` by name; `per_image`: the values `[N]` of those that are means or medians over images; `vectors`, such as
    the K-curve; `arrays` for pictures; `not_defined`: by metric why there is none; `parameters`: how many weights.
    """

    metrics: dict[str, float]
    per_image: PerImage
    vectors: dict[str, list[float]]
    arrays: Arrays
    not_defined: dict[str, str]
    parameters: int
    conditional_parts: list[str]
    binarization: Binarization
    own_validation: bool
    selected_epoch: int
    weights_sha256: str

    def npz(self) -> bytes:
        """Per-image values, codes and pictures as a NumPy archive, the same bytes for the same values."""
        return archive({**self.per_image, **self.arrays})

    def pack(self) -> bytes:
        """Everything in one piece, for `unpack`."""
        facts = {name: value for name, value in vars(self).items() if name not in ("per_image", "arrays")}
        parts = {"per_image": archive(self.per_image), "arrays": archive(self.arrays)}
        return pack_files({**parts, "facts": json.dumps(facts).encode()})


@dataclass(frozen=True)
class Failed:
    """A run that has diverged, in training or where it is measured: no number of it means anything."""

    reason: str
    parameters: int
    conditional_parts: list[str]
    binarization: Binarization
    own_validation: bool
    weights_sha256: str

    def pack(self) -> bytes:
        """Everything in one piece, for `unpack`."""
        return pack_files({"failed": json.dumps(vars(self)).encode()})


def unpack(packed: bytes) -> Evaluated | Failed:
    """What `pack` gave."""
    files = unpack_files(packed)
    if "failed" in files:
        return Failed(**json.loads(files["failed"]))
    arrays: dict[str, Any] = {name: unarchive(files[name]) for name in ("per_image", "arrays")}
    return Evaluated(**arrays, **json.loads(files["facts"]))


def evaluate(
    run: StoredRun,
    config: Evaluation,
    data: Path | bytes,
    report: "Report",
    *,
    history: Sequence[Mapping[str, float]] = (),
    mapped: bool = False,
) -> Evaluated | Failed:
    """Every metric that is defined for `run`, or why there is nothing to evaluate.

    Data set, validation images, seed and device are those of the run. The noise of the estimators is derived from its
    seed.

    Args:
        run: a trained run.
        config: K, the proposal, the corruption, the ex-post density.
        data: the data set's file, or its content.
        report: is told (images done, images in all, what is being measured).
        history: of the run's training, a row an epoch; empty where it is not known.
        mapped: also draw a map of the codes, which takes some seconds.

    Raises:
        ConfigError: the device is not there, or the proposal is not one for this model.
        DataError: the data set is missing or damaged.
        TrainingError: the run is damaged.
    """
    described = run.description
    device, model = available(described["device"]), run.model().requires_grad_(False)
    splits = load(data, described["dataset"], parse(Data, described["data"], "data"))
    facts: dict[str, Any] = {
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "conditional_parts": sorted(model.conditional_parts),
        "binarization": splits.binarization,
        "own_validation": splits.own_validation,
        "weights_sha256": run.weights_sha256,
    }
    model, splits, epochs = model.to(device), splits.to(device), described["training"]["epochs"]
    context = Context(model, splits, config, described["seed"], report, run.likelihood, history, epochs)
    try:
        if run.failed:
            raise Diverged(run.failed)
        return Evaluated(**_measured(context, mapped), selected_epoch=run.selected_epoch, **facts)
    except Diverged as error:
        return Failed(str(error), **facts)


def _measured(context: Context, mapped: bool) -> dict[str, Any]:
    """What `Evaluated` holds of the measurements.

    Raises:
        Diverged: weights, codes or a metric are not finite.
    """
    model, splits = context.model, context.splits
    for name, weight in model.state_dict().items():
        if not bool(weight.isfinite().all()):
            raise Diverged(f"the weights {name} are not finite: {DIVERGED}")
    codes = context.test.codes
    with np.errstate(over="ignore"):
        everywhere = (context.train, context.validation, context.test)
        overflow = not all(np.isfinite(np.square(split.codes).sum()) for split in everywhere)
    if overflow:
        raise Diverged(f"the codes overflow: {DIVERGED}")
    context.report(0, len(splits.test), "reconstructions and probes")
    measured, reasons = measure(context)
    errors = measured.per_image["reconstruction_mse"]
    arrays: Arrays = {
        **{"codes": codes, "plane": plane(codes), "labels": context.test.labels, **measured.arrays},
        **pictures(model, splits, context.config, context.seed, codes, errors),
    }
    if mapped:
        arrays["neighbourhoods"] = neighbourhoods(codes)
        arrays["mapped_images"] = splits.test.images[:MAPPED].view(-1, *splits.shape).cpu().numpy()
    return {
        "metrics": numbers(measured),
        "per_image": measured.per_image,
        "vectors": measured.vectors,
        "arrays": {**arrays, **measured.behind},
        "not_defined": reasons,
    }


def measure(context: Context) -> tuple[Measured, dict[str, str]]:
    """What the families of metrics that are chosen find of a run, and by metric the reason where it is not defined.

    Raises:
        ConfigError: `extra` names what is no optional family.
        Diverged: the run has.
        UserError: a family does not measure the metrics that it declares, or not of every image.
    """
    total, reasons = Measured(), dict[str, str]()
    for family in chosen(context.config.extra):
        missing = family.not_defined(context)
        reasons |= missing
        defined = [metric for metric in family.metrics if metric.name not in missing]
        if not defined:
            continue
        measured, file = family.measure(context), f"evaluation/metrics/{family.name}.py"
        for declared, names, what in (
            ({metric.name for metric in defined if metric.average}, measured.per_image, "of each image"),
            ({metric.name for metric in defined if not metric.average}, measured.of_run, "of the run"),
        ):
            if declared != names.keys():
                raise UserError(f"{file} measures {what} {sorted(names)}, and declares {sorted(declared)}")
        for metric in defined:
            if metric.average and metric.images is all_images:
                shape, images = measured.per_image[metric.name].shape, len(context.splits.test)
                if shape != (images,):
                    raise UserError(
                        f"{file}: found values of the shape {shape} for {metric.name}, allowed: ({images},)"
                    )
        total.add(measured)
    return total, reasons


def numbers(measured: Measured) -> dict[str, float]:
    """The metrics of a run: figures of the whole run, and what the images' values come to.

    Raises:
        Diverged: one is not finite.
    """
    figures = dict(measured.of_run)
    for name, values in measured.per_image.items():
        figures[name] = float(np.median(values) if metrics()[name].average == "median" else values.mean())
    for name, value in figures.items():
        if not np.isfinite(value):
            raise Diverged(f"{name} is {value}: {DIVERGED}, or the metric has no value for such an image")
    return figures
