"""Data sets with outside images, and how well a model tells these from its own test images."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import tiny
from numpy.typing import NDArray
from oracles import LinearGaussian
from safetensors.numpy import load as arrays_of
from sklearn.metrics import roc_auc_score
from test_evaluate import EVALUATION, config, evaluated, run, small
from test_pairs import FakeCell, metrics_paired
from test_user_datasets import archive, pixels, whole

from aebench import load_run
from aebench.config import Expost
from aebench.data.datasets import Split, Splits, fetch, known_datasets, load, named_dataset
from aebench.data.description import BINARIZED, Pair, describe, write
from aebench.data.outside import pair
from aebench.errors import DataError, Diverged
from aebench.evaluation.context import Context
from aebench.evaluation.document import document
from aebench.evaluation.likelihoods import outside_log_likelihood
from aebench.evaluation.metrics import Measured, out_of_distribution
from aebench.evaluation.metrics.out_of_distribution import auroc
from aebench.models.autoencoder import Autoencoder
from aebench.models.latent_variable_model import LatentVariableModel

AUROC = ("ood_auroc_likelihood", "ood_auroc_reconstruction")


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data sets of the digits' size, and one of another."""
    folder = tmp_path_factory.mktemp("datasets")
    for name in ("mine", "mine_vs_digits", "other"):
        archive(folder, whole(90, 8, 8), name)
    return archive(folder, whole(90, 8, 9), "wide")


def fetched(name: str, folder: Path) -> bytes:
    return fetch(name, folder / "raw", None, lambda _: None, [folder])


@pytest.mark.parametrize("suffix", ["", *BINARIZED])
@pytest.mark.parametrize(("inside", "outside"), [("digits", "mine"), ("other", "digits"), ("mine", "other")])
def test_it_is_the_first_data_set_beside_the_test_images_of_the_second(
    inside: str, outside: str, suffix: str, mine: Path
) -> None:
    name, inside, outside = f"{inside}_vs_{outside}{suffix}", f"{inside}{suffix}", f"{outside}{suffix}"
    content, alone, other = fetched(name, mine), fetched(inside, mine), fetched(outside, mine)
    arrays = arrays_of(content)
    images = arrays.pop("outside_images")
    assert arrays.keys() == arrays_of(alone).keys()
    assert all(np.array_equal(array, arrays[key]) for key, array in arrays_of(alone).items())
    assert np.array_equal(images, arrays_of(other)["test_images"])
    about, of_alone = describe(content), describe(alone)
    assert about.pair == (inside, outside)
    assert replace(about, files={}, pair=None) == replace(of_alone, files={})
    of_other = {f"{outside}/{file}": sha256 for file, sha256 in describe(other).files.items()}
    assert about.files == of_alone.files | of_other
    # What is drawn as it is loaded: validation images, and pixels.
    found, expected = load(content, name, 0.2), load(alone, inside, 0.2)
    for split in ("train", "validation", "test"):
        assert torch.equal(getattr(found, split).images, getattr(expected, split).images)
        assert torch.equal(getattr(found, split).labels, getattr(expected, split).labels)
    assert found.outside
    assert torch.equal(found.outside.images, load(other, outside, 0.2).test.images)
    assert not found.outside.dynamic_binarization
    assert found.outside.labels.unique().tolist() == [-1]
    assert expected.outside is None


def test_a_file_without_outside_images_does_not_speak_of_them(digits_file: Path) -> None:
    content = digits_file.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert set(json.loads(header["__metadata__"]["aebench"])) == {"shape", "classes", "binarization", "files"}


def test_a_file_that_contradicts_itself_is_one_line(mine: Path) -> None:
    content = fetched("digits_vs_mine", mine)
    arrays, about = arrays_of(content), describe(content)
    images = arrays.pop("outside_images")
    spoilt = (
        write(arrays, about),
        write(arrays | {"outside_images": images[..., :7]}, about),
        write(arrays | {"outside_images": images}, replace(about, pair=("digits",))),  # type: ignore[arg-type]
    )
    for data in spoilt:
        with pytest.raises(
            DataError, match=r"damaged .*; delete it and run `dvc repro fetch@digits_vs_mine`"
        ) as caught:
            load(data, "digits_vs_mine", 0.1)
        assert "\n" not in str(caught.value)


KNOWN = {
    **dict.fromkeys(("a", "b", "colour", "b_vs_c", "c", "a_vs_b_vs_b", "half_binary"), False),
    **{f"{name}{suffix}": True for name in ("a", "b", "c", "b_vs_c", "half_binary") for suffix in BINARIZED},
}


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("a_vs_b", ("a", "b")),
        ("b_vs_a", ("b", "a")),
        ("a_vs_colour", ("a", "colour")),
        ("a_vs_b_binary", ("a_binary", "b_binary")),
        ("a_vs_b_binary_fixed", ("a_binary_fixed", "b_binary_fixed")),
        ("b_vs_c", None),  # the name of one
        ("b_vs_c_binary", None),
        ("a_vs_b_vs_b", None),
        ("b_vs_c_vs_a", ("b_vs_c", "a")),
        ("a_vs_b_vs_c", ("a", "b_vs_c")),
        ("a_vs_half_binary", ("a", "half_binary")),
        ("a_vs_half_binary_binary", ("a_binary", "half_binary_binary")),
    ],
)
def test_what_a_name_means(name: str, found: Pair | None) -> None:
    assert pair(name, KNOWN) == found


@pytest.mark.parametrize(
    ("name", "unknown"),
    [
        ("d", "d"),
        ("a_vs_d", "d"),
        ("d_vs_a", "d"),
        ("d_vs_a_binary", "d"),
        ("a_vs_", ""),
        ("a_vs_b_vs_d", "b_vs_d"),
        ("a_vs_colour_binary", "colour_binary"),  # which a data set in colour has not
    ],
)
def test_the_part_that_is_no_data_set_is_named(name: str, unknown: str) -> None:
    with pytest.raises(KeyError) as caught:
        pair(name, KNOWN)
    assert caught.value.args == (unknown,)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a_vs_a", "allowed: two different data sets"),
        ("a_vs_a_binary", "allowed: two different data sets"),
        ("a_binary_vs_b_binary", "allowed: how pixels are binarised once, at the end, as in NAME_vs_OTHER_binary"),
        ("a_binary_vs_b", "allowed: how pixels are binarised once, at the end"),
        ("a_vs_b_vs_x", "may mean a and b_vs_x or a_vs_b and x, allowed: a name with one meaning"),
    ],
)
def test_what_is_no_pair_is_refused(name: str, message: str) -> None:
    two_ways = {"a_vs_b": False, "b_vs_x": False, "x": False} if "x" in name else {}
    with pytest.raises(DataError, match=message):
        pair(name, KNOWN | two_ways)


def test_a_folder_of_that_name_comes_first(mine: Path) -> None:
    arrays = arrays_of(fetched("mine_vs_digits", mine))
    assert "outside_images" not in arrays
    assert "outside_images" in arrays_of(fetched("other_vs_digits", mine))


def test_images_of_two_shapes_are_refused_in_a_line_that_names_both(mine: Path) -> None:
    with pytest.raises(DataError) as caught:
        fetched("digits_vs_wide", mine)
    of_both = "images of 1 × 8 × 8 in digits and of 1 × 8 × 9 in wide, allowed: one size and number of channels"
    assert str(caught.value) == of_both
    # Where both are known, before anything is fetched.
    every = known_datasets([mine])
    assert named_dataset("digits_vs_wide", every) == every["digits"]
    with pytest.raises(DataError, match="images of 1 × 28 × 28 in mnist and of 3 × 32 × 32 in svhn, allowed: one size"):
        named_dataset("mnist_vs_svhn", every)


# The metric


def brute_force(inside: NDArray[np.float64], outside: NDArray[np.float64]) -> float:
    """How many of all pairs are the right way round."""
    return float(np.mean([(a > b) + 0.5 * (a == b) for a in inside for b in outside]))


@pytest.mark.parametrize("values", [3, 40, 10**6])  # of few values many are tied
def test_it_is_the_area_under_the_curve(values: int) -> None:
    random = np.random.default_rng(values)
    inside, outside = (random.integers(0, values, size) + shift for size, shift in ((60, values / 5), (35, 0)))
    found = auroc(inside, outside)
    assert found == pytest.approx(brute_force(inside, outside), abs=1e-12)
    of_test = np.r_[np.ones(60), np.zeros(35)]
    assert found == pytest.approx(roc_auc_score(of_test, np.r_[inside, outside]), abs=1e-12)
    assert auroc(outside, inside) == pytest.approx(1 - found, abs=1e-12)


def test_of_no_number_nothing_is_said() -> None:
    for spoilt in ((np.array([1.0, math.nan]), np.ones(3)), (np.ones(3), np.array([math.nan]))):
        with pytest.raises(Diverged, match="a score of an image is not a number"):
            auroc(*spoilt)
    assert auroc(np.array([1.0, -math.inf]), np.array([-math.inf, 0.0])) == 0.625  # pairs of 1, 1, ½ and 0


def images(count: int, *shape: int) -> Split:
    """Outside images of noise."""
    return Split(torch.from_numpy(pixels(count, *(shape or (64,)))), torch.full((count,), -1))


def test_outside_images_have_the_likelihood_of_the_closed_form() -> None:
    model, outside, told = LinearGaussian(), images(7, 5), list[tuple[object, ...]]()
    how = EVALUATION.model_copy(update={"proposal": "amortised"})
    found = outside_log_likelihood(model, outside, how, 0, lambda *said: told.append(said))  # type: ignore[arg-type]
    expected = [model.log_likelihood(outside.pixels(slice(i, i + 1))) for i in range(7)]
    assert found.tolist() == pytest.approx(expected, abs=1e-6)
    assert told == [(7, 7, "log-likelihood of outside images, K = 97")]


@pytest.mark.parametrize("proposal", ["laplace", "amortised", "refined"])
@pytest.mark.parametrize("conditioning", [None, "concat"])
def test_an_images_likelihood_depends_on_no_other_image_and_on_no_label(
    proposal: str, conditioning: str | None
) -> None:
    model = tiny("cvae", conditioning="concat") if conditioning else tiny("vae")
    how = EVALUATION.model_copy(update={"proposal": proposal, "importance_samples": 60})
    few = images(3)

    def found(outside: Split, seed: int = 0) -> list[float]:
        assert isinstance(model, LatentVariableModel)
        return outside_log_likelihood(model.requires_grad_(False), outside, how, seed, lambda *_: None).tolist()

    before = found(few)
    others = torch.cat([few.images[:1], images(4).images])
    assert found(Split(others, torch.full((5,), 10**6)))[0] == before[0]  # a label that no model could take
    assert set(found(few, seed=1)).isdisjoint(before)


@pytest.fixture(scope="module")
def trained(digits_file: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Autoencoder]:
    """Models that have learned the digits a little."""
    folder = tmp_path_factory.mktemp("trained")
    made = {
        "ae": run(digits_file, folder / "ae", "ae"),
        "vae": run(digits_file, folder / "vae", "vae"),
        "cvae_concat": run(digits_file, folder / "cvae_concat", "cvae", conditioning="concat"),
    }
    return {name: load_run(path).requires_grad_(False) for name, path in made.items()}


def measured(model: Autoencoder, digits: Splits, test: Split, outside: Split) -> Measured:
    splits = replace(digits, test=test, outside=outside)
    return out_of_distribution.measure(Context(model, splits, EVALUATION, 0, lambda *_: None))


def first(split: Split, count: int) -> Split:
    return Split(split.images[:count], split.labels[:count])


@pytest.mark.parametrize("name", ["ae", "vae", "cvae_concat"])
def test_noise_is_told_from_digits_and_digits_are_not_told_from_themselves(
    name: str, trained: dict[str, Autoencoder], digits: Splits
) -> None:
    few, noise = first(digits.test, 40), images(30)
    found = measured(trained[name], digits, few, noise).of_run
    assert found.keys() == set(AUROC[name == "ae" :])
    assert min(found.values()) > 0.95
    swapped = measured(trained[name], digits, Split(noise.images, noise.labels + 1), few)
    assert max(swapped.of_run.values()) < 0.05
    same = measured(trained[name], digits, few, few).of_run
    assert same["ood_auroc_reconstruction"] == 0.5
    if name != "ae":
        assert same["ood_auroc_likelihood"] == pytest.approx(0.5, abs=0.01)
        assert same["ood_auroc_likelihood"] != 0.5  # test images and outside images have noise of their own


def test_there_are_no_more_outside_images_than_test_images(trained: dict[str, Autoencoder], digits: Splits) -> None:
    few, many = first(digits.test, 20), images(100)
    found = measured(trained["vae"], digits, few, many)
    errors = found.behind["outside_reconstruction_mse"]
    assert errors.shape == found.behind["outside_iw_log_likelihood_nats"].shape == (20,)
    # They are drawn, since the first might all be of one class.
    of_first = measured(trained["vae"], digits, few, first(many, 20)).behind["outside_reconstruction_mse"]
    assert not np.isin(errors, of_first).all()
    assert np.array_equal(errors, measured(trained["vae"], digits, few, many).behind["outside_reconstruction_mse"])


def test_a_pair_is_trained_and_evaluated_as_its_first_data_set(mine: Path, digits_file: Path, tmp_path: Path) -> None:
    """And its scores are those of the other metrics."""
    (tmp_path / "pair").write_bytes(fetched("digits_vs_mine", mine))
    pair = small(tmp_path / "pair", tmp_path / "pair.safetensors", 30)
    alone = small(digits_file, tmp_path / "alone.safetensors", 30)
    quick = EVALUATION.model_copy(update={"bound_gap_images": 0, "expost": Expost(images=0, importance_samples=60)})
    expected = evaluated(run(digits_file, tmp_path / "alone", "vae"), alone, quick)
    of_pair = run(tmp_path / "pair", tmp_path / "run", "vae", "digits_vs_mine")
    extra = quick.model_copy(update={"extra": ("out_of_distribution",)})
    found = evaluated(of_pair, pair, extra)
    assert found.weights_sha256 == expected.weights_sha256
    assert found.metrics.keys() - expected.metrics.keys() == set(AUROC)
    assert all(found.metrics[name] == value for name, value in expected.metrics.items())
    for kept, arrays in ((found.per_image, expected.per_image), (found.arrays, expected.arrays)):
        assert all(np.array_equal(kept[name], values) for name, values in arrays.items())  # type: ignore[arg-type]
    for score, of_test, of_outside in (
        ("likelihood", found.per_image["iw_log_likelihood_nats"], found.arrays["outside_iw_log_likelihood_nats"]),
        ("reconstruction", -found.per_image["reconstruction_mse"], -found.arrays["outside_reconstruction_mse"]),
    ):
        assert of_outside.shape == (15,)
        assert found.metrics[f"ood_auroc_{score}"] == pytest.approx(brute_force(of_test, of_outside))
    written = document("digits_vs_mine", config("vae"), extra, {0: found, 1: found})
    assert all("ci95" in written["summary"][score] for score in AUROC)
    assert not any("ci95_images" in written["summary"][score] for score in AUROC)
    assert written["protocol"]["outside_images"] == 15
    assert "outside_images" not in document("digits", config("vae"), quick, {0: expected})["protocol"]


def test_what_is_not_defined_has_its_reason(digits: Splits) -> None:
    def reasons(kind: str, splits: Splits) -> dict[str, str]:
        return out_of_distribution.not_defined(Context(tiny(kind), splits, EVALUATION, 0, lambda *_: None))

    without = dict.fromkeys(AUROC, "the data set has no outside images: name it NAME_vs_OTHER")
    assert reasons("ae", digits) == reasons("vae", digits) == without
    beside = replace(digits, outside=images(10))
    assert reasons("ae", beside) == {AUROC[0]: "has no p(z), hence neither a likelihood nor a bound on one"}
    assert reasons("vae", beside) == {}


def test_no_verdict_is_drawn_from_test_images_alone() -> None:
    """The outside images are a sample as well."""
    assert metrics_paired(FakeCell("a", measured=AUROC), FakeCell("b", 100, measured=AUROC)) == set()


def test_what_goes_wrong_with_an_outside_image_is_said_of_it() -> None:
    model = tiny("vae").requires_grad_(False)
    assert isinstance(model, LatentVariableModel)
    for weight in model.decoder.parameters():
        weight.fill_(math.nan)
    with pytest.raises(Diverged, match=r"^an outside image: "):
        outside_log_likelihood(model, images(2), EVALUATION, 0, lambda *_: None)


def test_a_prior_is_made_once_for_all_images(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("vae", prior="exemplar", exemplars=5, exemplars_a_step=3).requires_grad_(False)
    assert isinstance(model, LatentVariableModel)
    made, prior = list[object](), type(model).prior
    monkeypatch.setattr(type(model), "prior", lambda *args: made.append(args) or prior(*args))
    for proposal in ("laplace", "amortised", "refined"):
        made.clear()
        how = EVALUATION.model_copy(update={"proposal": proposal})
        outside_log_likelihood(model, images(130), how, 0, lambda *_: None)
        assert len(made) == 1, proposal
