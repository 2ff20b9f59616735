"""One run's metrics: what they may depend on, and what happens where there is nothing to measure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from conftest import block, network, protocol
from safetensors.numpy import load_file
from safetensors.torch import load_file as load_weights
from safetensors.torch import save_file as save_weights

from aebench.config import Data, Evaluation, Expost, RunConfig
from aebench.data.datasets import load
from aebench.data.description import Binarization, describe, write
from aebench.errors import DataError
from aebench.evaluation.cell import jobs
from aebench.evaluation.document import document
from aebench.evaluation.evaluate import Evaluated, Failed, evaluate
from aebench.evaluation.protocol import protocol as protocol_of
from aebench.evaluation.statistics import NEEDS_SEEDS
from aebench.store import Store
from aebench.training.run import train_run
from aebench.training.trained_run import read_run

EVALUATION = Evaluation(
    corruption="masking",
    corruption_rate=0.3,
    importance_samples=97,
    expost=Expost(images=20, importance_samples=60),
)


def config(kind: str, **settings: object) -> RunConfig:
    return RunConfig(
        variant=kind,
        model=block(kind, **settings),
        network=network(),
        training=protocol(epochs=3, batch_size=64, learning_rate=3e-3, select="last"),
        data=Data(validation_fraction=0.1),
        numerics="native",
    )


def small(path: Path, target: Path, images: int = 60, **changed: np.ndarray) -> Path:
    """The digits with their first test images alone, and with some arrays replaced."""
    arrays = load_file(path)
    for name in ("test_images", "test_labels"):
        arrays[name] = np.ascontiguousarray(arrays[name][:images])
    target.write_bytes(write({**arrays, **changed}, describe(path)))
    return target


def run(data: Path, folder: Path, kind: str, dataset: str = "digits", **settings: object) -> Path:
    train_run(config(kind, **settings), dataset, 0, data, lambda *_: None).write(folder)
    return folder


def evaluated(
    folder: Path, data: Path, evaluation: Evaluation = EVALUATION, history: Sequence[Mapping[str, float]] = ()
) -> Evaluated:
    found = evaluate(read_run(folder), evaluation, data, lambda *_: None, history=history)
    assert isinstance(found, Evaluated), found
    return found


def failed(folder: Path, data: Path) -> str:
    found = evaluate(read_run(folder), EVALUATION, data, lambda *_: None)
    assert isinstance(found, Failed)
    return found.reason


def described(folder: Path, **changes: object) -> None:
    """Change what a run says of itself."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("conditioning", ["class_prior", "concat"])
def test_shuffled_test_labels_change_nothing_but_what_is_given_them(
    digits_file: Path, tmp_path: Path, conditioning: str
) -> None:
    data = small(digits_file, tmp_path / "data.safetensors")
    folder = run(data, tmp_path / "run", "cvae", conditioning=conditioning)
    right = evaluated(folder, data)
    labels = np.ascontiguousarray(load_file(data)["test_labels"][::-1])
    shuffled = evaluated(folder, small(digits_file, tmp_path / "shuffled.safetensors", test_labels=labels))
    assert np.array_equal(right.arrays["codes"], shuffled.arrays["codes"])
    changed = {name for name, values in right.per_image.items() if not np.array_equal(values, shuffled.per_image[name])}
    assert changed == {name for name in right.per_image if "given_label" in name or "accuracy" in name}


def test_what_is_kept_of_every_image(digits_file: Path, tmp_path: Path) -> None:
    data = small(digits_file, tmp_path / "data.safetensors")
    found = evaluated(run(data, tmp_path / "run", "cvae", conditioning="concat"), data)
    for name, values in found.per_image.items():
        assert values.shape == ((20,) if name.startswith("expost_") else (60,))
        average = np.median if name.endswith("effective_sample_size") else np.mean
        assert found.metrics[name] == pytest.approx(average(values))
    # The label adds to log p(x) at most its own information, for every image.
    shares = load(data, "digits", 0.1).class_shares
    information = np.log([shares[label] for label in found.arrays["labels"]])
    gain = found.per_image["iw_log_likelihood_given_label_nats"] + information
    assert (gain <= found.per_image["iw_log_likelihood_nats"] + 0.5).all()  # the estimates' own error
    assert found.vectors["k_curve_samples"] == [1, 10, 97]  # no pilot takes some of them
    assert found.vectors["k_curve_nats"] == sorted(found.vectors["k_curve_nats"])
    assert found.vectors["k_curve_nats"][-1] == pytest.approx(found.metrics["iw_log_likelihood_nats"])
    divergence_of_labels = found.metrics["rate_nats"] - sum(found.vectors["rate_per_dimension_nats"])
    assert 0 <= divergence_of_labels <= np.log(10) + 0.1
    assert abs(found.metrics["generalisation_gap_nats"]) < 2
    with np.load(tmp_path / "values.npz" if (tmp_path / "values.npz").write_bytes(found.npz()) else "") as kept:
        assert set(found.per_image) <= set(kept.files)


def test_a_refined_proposal_evens_out_the_weights_and_leaves_the_elbo(digits_file: Path, tmp_path: Path) -> None:
    data = small(digits_file, tmp_path / "data.safetensors")
    for kind, settings in (("vae", {}), ("cvae", {}), ("cvae", {"conditioning": "concat"})):
        folder = run(data, tmp_path / f"{kind}{len(settings)}", kind, **settings)
        amortised, refined, laplace = (
            evaluated(folder, data, EVALUATION.model_copy(update={"proposal": proposal}))
            for proposal in ("amortised", "refined", "laplace")
        )
        gain = refined.per_image["iw_log_likelihood_nats"] - amortised.per_image["iw_log_likelihood_nats"]
        assert gain.mean() == pytest.approx(0, abs=0.1)  # K is large for so small a model: both are near log p(x)
        assert refined.metrics["effective_sample_size"] > amortised.metrics["effective_sample_size"]
        assert laplace.metrics["effective_sample_size"] > 10  # of any model; these have hardly been trained
        assert laplace.metrics["elbo_nats"] == pytest.approx(amortised.metrics["elbo_nats"], abs=0.1)
        assert refined.metrics["elbo_nats"] == pytest.approx(amortised.metrics["elbo_nats"], abs=0.1)


def test_weights_that_are_not_finite_are_named(digits_file: Path, tmp_path: Path) -> None:
    folder = run(digits_file, tmp_path / "run", "vae")
    weights = load_weights(folder / "model.safetensors")
    weights["decoder.0.weight"][0, 0] = float("nan")
    save_weights(weights, folder / "model.safetensors")
    assert "decoder.0.weight are not finite: the run has diverged" in (found := failed(folder, digits_file))
    assert "\n" not in found


def test_a_run_that_has_diverged_is_named(digits_file: Path, tmp_path: Path) -> None:
    folder = run(digits_file, tmp_path / "run", "vae")
    weights = load_weights(folder / "model.safetensors")
    weights["encoder.2.bias"] += 1e20
    save_weights(weights, folder / "model.safetensors")
    found = failed(folder, small(digits_file, tmp_path / "data.safetensors", 5))
    assert "the codes overflow: the run has diverged, try a smaller training.learning_r" in found


@pytest.mark.parametrize("kind", ["ae", "vae", "cvae"])
def test_constant_images_have_finite_figures(digits_file: Path, tmp_path: Path, kind: str) -> None:
    """Codes without spread, classes that no code tells apart, a tail of equal weights: no NaN anywhere."""
    arrays = load_file(digits_file)
    constant = {name: np.full_like(arrays[name], 255) for name in ("train_images",)}
    data = small(
        digits_file,
        tmp_path / "data.safetensors",
        20,
        **constant,
        test_images=np.full_like(arrays["test_images"][:20], 255),
    )
    found = evaluated(run(data, tmp_path / "run", kind), data)
    written = document("digits", config(kind), EVALUATION, {0: found})
    assert json.loads(json.dumps(written, allow_nan=False)) == written


def test_a_class_without_training_images_is_refused(digits_file: Path, tmp_path: Path) -> None:
    labels = load_file(digits_file)["train_labels"]
    labels[labels == 7] = 3
    data = small(digits_file, tmp_path / "data.safetensors", train_labels=labels)
    with pytest.raises(DataError, match="digits: found 0 training images of class 7, allowed: at least 2") as caught:
        load(data, "digits", 0.1)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_measured_has_a_reason(digits_file: Path, tmp_path: Path) -> None:
    data = small(digits_file, tmp_path / "data.safetensors", 20)
    folder = run(data, tmp_path / "run", "vae")
    few = EVALUATION.model_copy(update={"importance_samples": 7, "expost": Expost(images=0, importance_samples=60)})
    found = evaluated(folder, data, few)
    assert found.not_defined["pareto_k_unreliable_share"] == "needs at least 25 importance samples"
    assert "turned off" in found.not_defined["expost_log_likelihood_nats"]
    assert not set(found.metrics) & set(found.not_defined)
    written = document("digits", config("vae"), few, {0: found})
    assert written["not_defined"]["elbo_nats.ci95"] == NEEDS_SEEDS
    assert written["not_defined"]["effective_sample_size.ci95_images"] == "is not a mean over images"
    two = document("digits", config("vae"), few, {0: found, 1: replace(found)})
    assert "elbo_nats.ci95" not in two["not_defined"]


def test_a_validation_split_of_the_data_set_s_own_is_used_and_named(digits_file: Path, tmp_path: Path) -> None:
    arrays = load_file(digits_file)
    own = {f"validation_{what}": arrays[f"test_{what}"][60:90] for what in ("images", "labels")}
    data = small(digits_file, tmp_path / "data.safetensors", **own)
    assert np.array_equal(load(data, "digits", 0.1).validation.images.reshape(-1, 1, 8, 8), own["validation_images"])
    folder = run(data, tmp_path / "run", "ae")
    protocol = document("digits", config("ae"), EVALUATION, {0: evaluated(folder, data)})["protocol"]
    assert protocol["validation"] == "the data set's own split"
    assert "validation_fraction" not in protocol


def test_the_protocol_says_what_was_held_out_and_how_pixels_are_binarised() -> None:
    def protocol(held_out: Data, way: Binarization = "none") -> dict[str, Any]:
        of_run = config("ae").model_copy(update={"data": held_out})
        return protocol_of(way, of_run, EVALUATION, 60, (), own_validation=False)

    plain = protocol(Data(validation_fraction=0.1))
    assert plain["validation_fraction"] == 0.1
    assert not {"validation", "validation_images"} & set(plain)
    last = protocol(Data(validation_images=100, validation="last"))
    assert (last["validation"], last["validation_images"]) == ("last", 100)
    assert "validation_fraction" not in last
    notes = {way: protocol(Data(validation_images=100), way)["binarization"] for way in get_args(Binarization)}
    assert len(set(notes.values())) == 4
    assert all(note.startswith(f"{way} (") for way, note in notes.items())


def test_a_run_of_the_last_images_is_evaluated_on_its_own_split(digits_file: Path, tmp_path: Path) -> None:
    held_out = Data(validation_images=200, validation="last")
    of_run = config("ae").model_copy(update={"data": held_out})
    train_run(of_run, "digits", 0, digits_file, lambda *_: None).write(tmp_path / "run")
    stored = read_run(tmp_path / "run")
    assert stored.description["data"] == {"validation_images": 200, "validation": "last"}
    alone = EVALUATION.model_copy(update={"expost": Expost(images=0, importance_samples=60)})
    work, _ = jobs({0: stored}, alone, "digits", "hash", "code", Store(tmp_path / "store", 10**9))
    (job,) = work.values()
    found = job(digits_file, lambda *_: None)
    assert isinstance(found, Evaluated)
    described(tmp_path / "run", data={"validation_fraction": 0.1})
    random = evaluated(tmp_path / "run", digits_file, alone)
    assert np.array_equal(found.per_image["reconstruction_mse"], random.per_image["reconstruction_mse"])
    assert not np.array_equal(found.per_image["knn_accuracy"], random.per_image["knn_accuracy"])


def test_densities_are_not_defined_on_binarised_pixels(digits_file: Path, tmp_path: Path) -> None:
    from aebench import load_run
    from aebench.evaluation.context import Context
    from aebench.evaluation.metrics.expost import not_defined

    model, grey = load_run(run(digits_file, tmp_path / "run", "ae")), load(digits_file, "digits", 0.1)
    binarised = Context(model, replace(grey, binarization="stochastic"), EVALUATION, 0, lambda *_: None)
    assert not_defined(binarised)["expost_log_likelihood_nats"] == "is a density, and the pixels are binarised"
    assert not_defined(replace(binarised, splits=grey)) == {}


def test_other_seeds_draw_other_noise(digits_file: Path, tmp_path: Path) -> None:
    data = small(digits_file, tmp_path / "data.safetensors", 10)
    folder = run(data, tmp_path / "run", "vae")
    first, again = evaluated(folder, data), evaluated(folder, data)
    described(folder, seed=1)
    other = evaluated(folder, data)
    assert first.npz() == again.npz()
    assert first.metrics["iw_log_likelihood_nats"] != other.metrics["iw_log_likelihood_nats"]
    assert first.metrics["reconstruction_mse"] == other.metrics["reconstruction_mse"]
    assert torch.is_tensor(torch.from_numpy(first.arrays["codes"]))
