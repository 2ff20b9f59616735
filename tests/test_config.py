"""Every mistake in params.yaml is one line that names the key, what was found and what is allowed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, protocol
from ruamel.yaml import YAML

from aebench.config import Params
from aebench.errors import ConfigError
from aebench.evaluation.preflight import require_refinable
from aebench.training.settings import read_params

Edit = Callable[[dict[str, Any]], object]


def check(path: Path) -> Params:
    return read_params(path)


@pytest.fixture
def edited(tmp_path: Path) -> Callable[[Edit], Path]:
    """params.yaml as it stands in the repository, changed by a function."""

    def edit(change: Edit) -> Path:
        content = YAML(typ="safe").load(ROOT / "params.yaml")
        change(content)
        path = tmp_path / "params.yaml"
        YAML(typ="safe").dump(content, path)
        return path

    return edit


def test_the_repositorys_files_are_in_order() -> None:
    for path in (ROOT / "params.yaml", *(ROOT / "settings" / name for name in ("article.yaml", "demo.yaml"))):
        assert check(path).seeds


def put(where: str, value: object) -> Edit:
    def change(content: dict[str, Any]) -> None:
        *parents, last = where.split(".")
        for parent in parents:
            content = content[parent]
        content[last] = value

    return change


BAD: list[tuple[Edit, str]] = [
    (
        put("models.ae", {"kind": "vq_vae", "codebook": 64, "groups": 3}),
        "models.ae.groups: found 3 with a latent_dim of 16, allowed: a divisor of it",
    ),
    (
        put("models.ae", {"kind": "sparse_ae", "sparsity": "k_sparse", "k": 4, "network": {"latent_dim": 2}}),
        "models.ae.k: found 4 with a latent_dim of 2, allowed: at most 2",
    ),
    (put("models.ae", {"kind": "sparse_ae", "sparsity": "k_sparse"}), "models.ae.k: missing with sparsity k_sparse"),
    (
        put("models.ae", {"kind": "sparse_ae", "sparsity": "l1", "l1_weight": 0.1, "k": 4}),
        "models.ae.k: found 4 with sparsity l1, allowed: null",
    ),
    (
        put("models.ae", {"kind": "sparse_ae", "sparsity": "l1", "l1_weight": 0.1, "alpha": 2.0}),
        "models.ae.alpha: found 2.0 with sparsity l1, allowed: 1, or sparsity: k_sparse",
    ),
    (
        put("models.ae", {"kind": "sparse_ae", "sparsity": "k_sparse", "k": 4, "alpha": 0.5}),
        "models.ae.alpha: found 0.5, allowed: greater than or equal to 1",
    ),
    (
        put(
            "models.ae",
            {"kind": "rae", "code_weight": 0.1, "regulariser": "l2", "regulariser_weight": 0.1, "probes": 2},
        ),
        "models.ae.probes: found 2 with regulariser l2, allowed: with gradient_penalty",
    ),
    (
        put("models.dae", {"kind": "dae", "corruption": "salt_and_pepper", "corruption_rate": 1.5}),
        "models.dae.corruption_rate: found 1.5 with salt_and_pepper, allowed: at most 1",
    ),
    (put("models.vae.betta", 1.0), "models.vae.betta: unknown key, allowed: .*beta.*did you mean beta"),
    (put("trainning", {}), "trainning: unknown key, allowed: datasets, .*did you mean training"),
    (put("training.epochs", 0), "training.epochs: found 0, allowed: greater than or equal to 1"),
    (put("training.epochs", "10"), "training.epochs: found '10', allowed: a whole number"),
    (put("training.epochs", 2.5), "training.epochs: found 2.5, allowed: a whole number"),
    (put("training.epochs", True), "training.epochs: found True, allowed: a whole number"),
    (put("training.learning_rate", float("nan")), "training.learning_rate: found nan, allowed: "),
    (put("training.learning_rate", 0), "training.learning_rate: found 0, allowed: greater than 0"),
    (put("training.select", "best"), "training.select: found 'best', allowed: best_validation, last"),
    (lambda c: c["training"].pop("epochs"), "training.epochs: missing"),
    (put("data.validation_fraction", 1.0), "data.validation_fraction: found 1.0, allowed: less than 1"),
    (put("data.validation_fraction", 0), "data.validation_fraction: found 0 while .* best_validation"),
    (put("data.validation_fraction", 1e-6), "data.validation_fraction: found 1e-06, which takes 0 of the 60000"),
    (put("data.validation_fraction", 0.9999), "data.validation_fraction: found 0.9999, which takes 59994 of the 60000"),
    (
        put("datasets", ["mnist_binry"]),
        r"datasets\[0\]: found 'mnist_binry', allowed: fashion_mnist, .*, svhn \(did you mean mnist_binary\?\); "
        "grey ones also as NAME_binary, NAME_binary_fixed, NAME_binary_threshold; or NAME where datasets/ holds",
    ),
    (
        put("datasets", ["fashion_mnist_vs_mnits"]),
        r"datasets\[0\]: found 'fashion_mnist_vs_mnits', of which mnits is no data set, allowed: fashion_mnist, .*, "
        r"svhn \(did you mean mnist\?\); .*; or two of these as NAME_vs_OTHER$",
    ),
    (
        put("datasets", ["fashion_mnist", "fashion_mnist_vs_fashion_mnist"]),
        r"datasets\[1\]: found 'fashion_mnist_vs_fashion_mnist', allowed: two different data sets$",
    ),
    (
        put("datasets", ["fashion_mnist_vs_cifar10"]),
        r"datasets\[0\]: found 'fashion_mnist_vs_cifar10', images of 1 × 28 × 28 in fashion_mnist and of 3 × 32 × 32 "
        "in cifar10, allowed: one size and number of channels$",
    ),
    (
        put("datasets", ["mnist_binary_vs_omniglot_binary"]),
        "found 'mnist_binary_vs_omniglot_binary', allowed: how pixels are binarised once, at the end, as in NAME_vs_",
    ),
    (
        put("datasets", ["cifar10_vs_svhn_binary"]),
        "found 'cifar10_vs_svhn_binary', of which svhn_binary is no data set, allowed: .* NAME_binary, ",
    ),
    (
        lambda c: (put("datasets", ["mnist_vs_omniglot_binary"])(c), put("models.vae.likelihood", "gaussian")(c)),
        "models.vae.likelihood: found gaussian with mnist_vs_omniglot_binary, whose pixels are 0 or 1",
    ),
    (put("data", {}), "data.validation_fraction: missing, allowed: a share, or validation_images in its place"),
    (
        put("data.validation_images", 100),
        "data.validation_images: found 100 beside validation_fraction 0.1, allowed: one of the two",
    ),
    (put("data.validation", "first"), "data.validation: found 'first', allowed: random, last"),
    (put("data", {"validation_images": 10000.0}), "data.validation_images: found 10000.0, allowed: a whole number"),
    (put("data", {"validation_images": -1}), "data.validation_images: found -1, allowed: greater than or equal to 0"),
    (put("data", {"validation_images": 0}), "data.validation_images: found 0 while .*, allowed: a number above 0, or"),
    (
        put("data", {"validation_images": 60_000}),
        "data.validation_images: found 60000 of the 60000 training images of fashion_mnist, allowed: 0, or a number "
        "that leaves 10 images on both sides",
    ),
    (put("network.latent_dim", 10**10), "network.latent_dim: found 10000000000, allowed: less than or equal to 65536"),
    (put("training.4", 1), "training.4: unknown key"),
    (
        put("models.vae", {"kind": "vae", "objective": "iwae", "beta_warmup_epochs": 3}),
        "models.vae.beta_warmup_epochs: found 3 with objective iwae, allowed: 0",
    ),
    (
        put("models.vae.beta_warmup_epochs", 11),
        "models.vae.beta_warmup_epochs: found 11, allowed: at most training.epochs, which are 10$",
    ),
    (
        put("models.cvae", {"kind": "cvae", "beta_warmup_epochs": 11, "training": {"epochs": 9}}),
        "models.cvae.beta_warmup_epochs: found 11, allowed: at most training.epochs, which are 9$",
    ),
    (put("datasets", ["fashon_mnist"]), r"datasets\[0\]: found 'fashon_mnist', .*did you mean fashion_mnist\?"),
    (put("datasets", "digits"), "datasets: found 'digits', allowed: a list"),
    (put("datasets", []), "datasets: found .*, allowed: .*at least 1"),
    (put("variants", ["ae", "vea"]), r"variants\[1\]: found 'vea', .*did you mean vae\?"),
    (put("variants", ["ae", "ae"]), r"variants\[1\]: found 'ae' twice"),
    (put("seeds", [0, 1, 0]), r"seeds\[2\]: found 0 twice"),
    (put("seeds", [0, -1]), r"seeds\[1\]: found -1, allowed: greater than or equal to 0"),
    (put("seeds", 4), "seeds: found 4, allowed: a list"),
    (put("models", []), "models: found "),
    (put("models.vae", None), "models.vae: found None, allowed: a mapping with a kind"),
    (put("models.vae.kind", "vea"), r"models.vae.kind: found 'vea', allowed: .*did you mean vae\?"),
    (put("models.vae", {"beta": 1.0}), "models.vae.kind: missing, allowed: ae, "),
    (put("models.vae.beta", -1), "models.vae.beta: found -1, allowed: greater than or equal to 0"),
    (put("models.vae.samples", 5), "models.vae.samples: found 5 with objective elbo"),
    (put("models.vae.network", {"hidden": [0]}), r"models.vae.network.hidden\[0\]: found 0"),
    (put("models.vae.network", {"widths": [8]}), "models.vae.network.widths: unknown key, allowed: architecture, "),
    (put("models.vae.network", {"channels": [8]}), "models.vae.network.channels: unknown key, allowed: .*, hidden"),
    (put("models.vae.network", {"architecture": "conv"}), "models.vae.network.channels: missing"),
    (put("models.vae.network", 3), "models.vae.network: found 3, allowed: a mapping"),
    (put("models.vae.training", {"epoch": 3}), r"models.vae.training.epoch: unknown key, .*did you mean epochs\?"),
    (put("models.vae.training", []), r"models.vae.training: found \[\], allowed: a mapping"),
    (put("training.optimizer", "adm"), r"training.optimizer: found 'adm', .*did you mean adam\?"),
    (put("training.optimizer", "adamw"), "training.weight_decay: missing"),
    (put("training.weight_decay", 0.1), "training.weight_decay: unknown key"),
    (put("models.vae.training", {"optimizer": "adamw"}), "models.vae.training.weight_decay: missing"),
    (put("training.schedule", "cosin"), r"training.schedule: found 'cosin', .*did you mean cosine\?"),
    (
        put("training.plateau_epochs", 3),
        "training.plateau_epochs: found 3 with cosine, allowed: with schedule: plateau",
    ),
    (
        lambda c: c["training"].update(schedule="plateau", plateau_epochs=0),
        "training.plateau_epochs: found 0, allowed: greater than or equal to 1",
    ),
    (
        lambda c: c["training"].update(schedule="plateau", patience=5),
        "training.patience: found 5 with plateau_epochs 5, allowed: more than 5, or null",
    ),
    (
        lambda c: c["training"].update(schedule="plateau", select="last") or c["data"].update(validation_fraction=0),
        "data.validation_fraction: found 0 while ae has .* the schedule plateau, .*or training.schedule: constant",
    ),
    (put("training.warmup_share", 1.5), "training.warmup_share: found 1.5, allowed: less than or equal to 1"),
    (put("training.gradient_clip", 0), "training.gradient_clip: found 0, allowed: greater than 0"),
    (put("training.patience", 0), "training.patience: found 0, allowed: greater than or equal to 1"),
    (
        lambda c: c["training"].update(patience=5, select="last") or c["data"].update(validation_fraction=0),
        "data.validation_fraction: found 0 while ae has a patience of 5 epochs, .*or training.patience: null",
    ),
    (put("network.architecture", "cnn"), "network.architecture: found 'cnn', allowed: conv, gated_mlp, mlp"),
    (put("network.architecture", []), r"network.architecture: found \[\], allowed: conv, gated_mlp, mlp"),
    (put("network.channels", [8]), "network.channels: unknown key, allowed: architecture, latent_dim, hidden"),
    (put("network", "mlp"), "network: found 'mlp', allowed: a mapping"),
    (lambda c: c.pop("network"), "network: missing, it has no default"),
    (
        put("network", {"architecture": "conv", "channels": [], "latent_dim": 2}),
        "network.channels: found .*, allowed: .*at least 1",
    ),
    (
        put("network", {"architecture": "conv", "channels": [4] * 5, "latent_dim": 2}),
        "fashion_mnist: network.channels: found a list of 5 for images of 28 × 28 pixels, allowed: at most 4",
    ),
    (
        put("models.vae.network", {"architecture": "conv", "channels": [4] * 5}),
        "models.vae.network.channels: found a list of 5 for images of 28 × 28 pixels, allowed: at most 4",
    ),
    (put("models.dae.corruption", "maskin"), r"models.dae.corruption: found 'maskin', .*did you mean masking\?"),
    (put("models.dae.corruption_rate", 1.5), "models.dae.corruption_rate: found 1.5 with masking, allowed: at most 1"),
    (
        lambda c: c["models"].update({"../evil": {"kind": "ae"}}),
        r"models.\.\./evil: found '../evil', allowed: small letters",
    ),
    (lambda c: c["models"].update({"<b>": {"kind": "ae"}}), "models.<b>: found '<b>', allowed: small letters"),
    (put("datasets", ["../evil"]), r"datasets\[0\]: found '../evil', allowed: small letters, digits and underscores"),
    (put("datasets", ["mine"]), r"found 'mine', allowed: fashion_mnist, .*; or NAME where datasets/ holds NAME.npz"),
    (put("evaluation.importance_samples", 0), "evaluation.importance_samples: found 0, allowed: greater"),
    (put("evaluation.proposal", "refine"), r"evaluation.proposal: found 'refine', .*did you mean refined\?"),
    (put("evaluation.extra", "gaps"), "evaluation.extra: found 'gaps', allowed: a list"),
    (put("evaluation.extra", [7]), r"evaluation.extra\[0\]: found 7, allowed: text"),
    (put("evaluation.expost", None), "evaluation.expost: found None, allowed: "),
    (put("evaluation.expost.images", -1), "evaluation.expost.images: found -1, allowed: greater than or equal to 0"),
    (put("evaluation.expost.importance_samples", 0), "evaluation.expost.importance_samples: found 0, allowed: greater"),
    (put("evaluation.expost.image", 5), r"evaluation.expost.image: unknown key, .*did you mean images\?"),
    (put("models.vae.likelihood", "gausian"), r"models.vae.likelihood: found 'gausian', .*did you mean gaussian\?"),
    (put("models.vae.sigma", 0.1), "models.vae.sigma: found 0.1 with bernoulli, allowed: with likelihood: gaussian"),
    (
        put("models.vae", {"kind": "vae", "likelihood": "gaussian", "sigm": 1}),
        r"models.vae.sigm: unknown key, allowed: kind, .* sigma, .*\(did you mean sigma\?\)",
    ),
    (
        put("models.vae.likelihood", ["bernoulli"]),
        r"models.vae.likelihood: found \['bernoulli'\], allowed: bernoulli, ",
    ),
    (put("models.ae.likelihood", "bernoulli"), "models.ae.likelihood: unknown key, allowed: kind, "),
    (
        lambda c: (
            put("datasets", ["fashion_mnist_binary"])(c),
            put("models.vae.likelihood", "discretised_logistic")(c),
        ),
        "models.vae.likelihood: found discretised_logistic with fashion_mnist_binary, whose pixels are 0 or 1: it "
        "gives probabilities to 256 grey values, allowed: bernoulli$",
    ),
    (
        put("models.vae", {"kind": "vae", "likelihood": "gaussian", "sigma": 1e-5}),
        "models.vae.sigma: found 1e-05, allowed: learned, or a number from 0.0001 to 10000$",
    ),
    (put("models.cvae.conditioning", "conct"), r"models.cvae.conditioning: found 'conct', .*did you mean concat\?"),
    (
        lambda c: (put("datasets", ["fashion_mnist_binary"])(c), put("models.cvae.likelihood", "gaussian")(c)),
        "models.cvae.likelihood: found gaussian with fashion_mnist_binary, whose pixels are 0 or 1: a density has no",
    ),
    (
        lambda c: (
            put("datasets", ["fashion_mnist", "fashion_mnist_binary"])(c),
            put("models.vae.likelihood", "continuous_bernoulli")(c),
        ),
        "models.vae.likelihood: found continuous_bernoulli with fashion_mnist_binary, .*allowed: bernoulli",
    ),
    (put("evaluation.corruption_rate", 2), "evaluation.corruption_rate: found 2.0 with masking"),
    (put("execution.workers", "many"), "execution.workers: found 'many', allowed: auto, or a whole number"),
    (put("execution.workers", 0), "execution.workers: found 0, allowed: auto, or a whole number"),
    (put("execution.source_dir", 3), "execution.source_dir: found 3"),
    (
        put("tracking.experiment", "../x"),
        "tracking.experiment: found '../x', allowed: letters, digits, underscores, points and hyphens",
    ),
    (put("numerics", "fast"), "numerics: found 'fast', allowed: portable, native"),
    (put("device", "gpu"), "device: found 'gpu', allowed: cpu, cuda"),
    (lambda c: c.pop("device"), "device: missing, it has no default"),
    (
        put("models.ae", {"kind": "sparse_ae", "sparsity": "k_sparse", "k": 4, "alpha": 1e308}),
        "models.ae.alpha: found 1e\\+308 with a latent_dim of 16, allowed: at most 4 with k 4",
    ),
    (
        put("models.ae", {"kind": "sparse_ae", "sparsity": "k_sparse", "k": 4, "alpha": 4.25}),
        "models.ae.alpha: found 4.25 with a latent_dim of 16, allowed: at most 4 with k 4",
    ),
    *(
        (put(f"models.vae.{key}", value), rf"models.vae.{key}.*: found .*, allowed: {allowed}")
        for key, value, allowed in (
            ("log_variance_range", [-1e39, 1], "greater than or equal to -80"),
            ("log_variance_range", [1, 200], "less than or equal to 80"),
            ("log_variance_range", [1, 2, 3], "at most 2"),
            ("beta", 1e308, "less than or equal to 1000000000"),
        )
    ),
    (
        put("models.vae", {"kind": "vae", "posterior": "iaf", "steps": 10**8, "width": 8}),
        "models.vae.steps: found 100000000, allowed: less than or equal to 1000",
    ),
    (
        lambda c: c["evaluation"].update(corruption="gaussian", corruption_rate=1e39),
        "evaluation.corruption_rate: found 1e\\+39, allowed: less than or equal to 1000000",
    ),
    (put("evaluation.expost.images", 1), "evaluation.expost.images: found 1, allowed: 0, or at least 2"),
    (put("execution.source_dir", "a" * 300), "execution.source_dir: found 'a*…, allowed: a folder; File name too long"),
    (put("execution.workers", {"n": 2}), "execution.workers: found {'n': 2}, allowed: auto, or a whole number"),
    (
        put("models.vae", {"kind": "vae", "likelihood": "gaussian", "sigma": {}}),
        "models.vae.sigma: found {}, allowed: learned, or a number from ",
    ),
    (put("data", None), "data: found None, allowed: a mapping"),
    (put("evaluation", "all"), "evaluation: found 'all', allowed: a mapping"),
    (put("models", {}), "models: found 0 entries, allowed: at least 1"),
    (put("seeds", []), "seeds: found 0 entries, allowed: at least 1"),
    (put("datasets", ["digits_vs_"]), r"datasets\[0\]: found 'digits_vs_', of which nothing is no data set"),
    *(
        (
            lambda c, block=block: (put("models.vae", block)(c), put("training.batch_size", 1)(c)),
            "training.batch_size: found 1 while vae compares the codes of a batch, allowed: at least 2",
        )
        for block in (
            {"kind": "wae_mmd", "mmd_weight": 1.0},
            {"kind": "vae", "objective": "tcvae", "total_correlation_weight": 1.0},
            {"kind": "vae", "objective": "infovae", "information": 0.5, "match": 1.0},
        )
    ),
]


@pytest.mark.parametrize(("change", "message"), BAD, ids=[message[:40] for _, message in BAD])
def test_a_mistake_is_one_line(edited: Callable[[Edit], Path], change: Edit, message: str) -> None:
    path = edited(change)
    with pytest.raises(ConfigError, match=message) as caught:
        check(path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("params.yaml: ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "found None, allowed: a mapping"),
        ("- a\n- b\n", "allowed: a mapping"),
        ("seeds: [0\n", "line .*: not valid YAML"),
        ('a: "\\UFFFFFFFF"\n', "not valid YAML: "),
        ('a: "\\U00110000"\n', "not valid YAML: "),
        ("seeds: [0]\nseeds: [1]\n", 'line 2: not valid YAML: found duplicate key "seeds"$'),
        (
            "a: !!python/object:os.system {}\n",
            "line 1: found the tag !!python/object:os.system, allowed: values without",
        ),
    ],
)
def test_what_is_not_a_mapping_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        check(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_one_that_is_not_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        check(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_bytes("# of Müller\nseeds: [0]  # größer\n".encode("latin-1"))
    with pytest.raises(ConfigError, match="line 1: found bytes that are not UTF-8, allowed: a file in UTF-8"):
        check(tmp_path / "params.yaml")


def test_a_variant_may_have_a_network_of_its_own(edited: Callable[[Edit], Path]) -> None:
    """What is set for all variants counts for the networks of that kind; the size of a code counts for all."""
    blocks = {
        "vae_wide": {"kind": "vae", "network": {"hidden": [9]}},
        "vae_conv": {"kind": "vae", "network": {"architecture": "conv", "channels": [4, 8]}},
    }
    params = check(edited(lambda c: (c["models"].update(blocks), c["variants"].extend(blocks))))
    assert params.run("vae").network.model_dump() == {
        "architecture": "mlp",
        "latent_dim": 16,
        "hidden": (256,),
        "activation": "relu",
    }
    assert params.run("vae_wide").network.model_dump() == {
        "architecture": "mlp",
        "latent_dim": 16,
        "hidden": (9,),
        "activation": "relu",
    }
    conv = {"architecture": "conv", "latent_dim": 16, "channels": (4, 8), "hidden": ()}
    assert params.run("vae_conv").network.model_dump() == conv
    assert params.modules("vae_conv") == (
        *("aebench.variants.vae", "aebench.models.networks.conv", "aebench.training.optimizers.adam"),
        *("aebench.training.schedules.cosine", "aebench.training.stopping.patience"),
        *("aebench.models.likelihoods.bernoulli", "aebench.models.priors.standard_normal"),
        *("aebench.models.posteriors.diagonal", "aebench.models.objectives.elbo"),
    )
    assert params.modules("ae")[2:] == params.modules("vae_conv")[2:5]
    assert params.run("vae_conv").model == params.run("vae").model


def test_an_override_that_is_empty_changes_nothing(edited: Callable[[Edit], Path]) -> None:
    block = {
        "kind": "vae",
        "network": {"hidden": None, "architecture": None},
        "training": {"epochs": None, "patience": None, "optimizer": None, "schedule": None},
    }
    shared = {"patience": 3, "epsilon": 1e-4, "schedule": "plateau", "plateau_epochs": 2}
    params = check(
        edited(
            lambda c: (
                c["models"].update(vae=block),
                c["training"].update(shared),
                c["network"].update(activation="tanh"),
            )
        )
    )
    assert params.run("vae").network == params.network
    assert params.run("vae").training == protocol(**params.training.model_dump() | {"patience": None})


def test_what_belongs_to_a_schedule_goes_with_it(edited: Callable[[Edit], Path]) -> None:
    blocks = {
        "vae_cosine": {"kind": "vae", "training": {"schedule": "cosine"}},
        "vae_longer": {"kind": "vae", "training": {"schedule": "plateau", "epochs": 300}},
    }
    shared = {"schedule": "plateau", "plateau_epochs": 3}
    params = check(
        edited(lambda c: (c["models"].update(blocks), c["variants"].extend(blocks), c["training"].update(shared)))
    )
    assert params.run("vae_longer").training == params.training.model_copy(update={"epochs": 300})
    before = {key: value for key, value in params.training.model_dump().items() if key != "plateau_epochs"}
    assert params.run("vae_cosine").training == protocol(**before | {"schedule": "cosine"})


def test_of_two_mistakes_the_first_is_named(edited: Callable[[Edit], Path]) -> None:
    block = {"kind": "vae", "training": {"epochs": 0}, "network": {"hidden": [0]}}
    with pytest.raises(ConfigError, match=r"models.vae.network.hidden\[0\]"):
        check(edited(lambda c: c["models"].update(vae=block)))


def test_a_variant_overrides_the_shared_blocks_and_nothing_else(edited: Callable[[Edit], Path]) -> None:
    block = {"kind": "vae", "beta": 4, "network": {"latent_dim": 2}, "training": {"epochs": 3}}
    params = check(edited(lambda content: content["models"].update(vae_beta4=block)))
    run, plain = params.run("vae_beta4"), params.run("vae")
    assert run.network.latent_dim == 2
    assert run.network.hidden == plain.network.hidden  # type: ignore[attr-defined]
    assert run.training.epochs == 3
    assert run.training.batch_size == plain.training.batch_size
    assert plain.network.latent_dim == 16
    assert run.model.model_dump()["beta"] == 4


def test_a_number_in_yamls_short_form_is_a_number(edited: Callable[[Edit], Path], tmp_path: Path) -> None:
    text = (ROOT / "params.yaml").read_text()
    short = text.replace("1.0e-2", "1e-2")
    assert short != text
    (tmp_path / "params.yaml").write_text(short)
    assert check(tmp_path / "params.yaml").training.learning_rate == 1e-2


def test_no_validation_split_goes_with_the_last_epoch(edited: Callable[[Edit], Path]) -> None:
    def change(content: dict[str, Any]) -> None:
        content["data"]["validation_fraction"] = 0
        content["training"]["select"] = "last"

    assert check(edited(change)).data.validation_fraction == 0


def test_what_is_held_out_is_written_down_as_it_was_set(edited: Callable[[Edit], Path]) -> None:
    for block in (
        {"validation_fraction": 0.1},
        {"validation_images": 10_000},
        {"validation_images": 10_000, "validation": "last"},
        {"validation_fraction": 0.2, "validation": "last"},
    ):
        run = check(edited(put("data", block))).run("vae")
        for written in (run.model_dump(mode="json"), run.model_dump(mode="json", exclude_none=True)):
            assert written["data"] == block
    # What is the default changes no run's key.
    spelt_out = {"validation_fraction": 0.1, "validation": "random", "validation_images": None}
    assert check(edited(put("data", spelt_out))).data.model_dump() == {"validation_fraction": 0.1}


def test_each_likelihood_goes_with_grey_pixels(edited: Callable[[Edit], Path]) -> None:
    for block in (
        {"likelihood": "continuous_bernoulli"},
        {"likelihood": "gaussian"},
        {"likelihood": "gaussian", "sigma": "learned"},
        {"likelihood": "gaussian", "sigma": 1},
        {"likelihood": "discretised_logistic", "sigma": None},
    ):
        params = check(edited(put("models.vae", {"kind": "vae", **block})))
        assert f"aebench.models.likelihoods.{block['likelihood']}" in params.modules("vae")
        # In a run's files its settings stand as they do in params.yaml.
        written = params.run("vae").model_dump(mode="json", exclude_none=True)["model"]
        assert written["likelihood"] == block["likelihood"]
        assert written.get("sigma") == block.get("sigma")
        assert written["objective"] == "elbo"


def test_what_is_not_said_of_the_evaluation_has_its_default(edited: Callable[[Edit], Path]) -> None:
    def change(content: dict[str, Any]) -> None:
        del content["evaluation"]["proposal"], content["evaluation"]["expost"], content["evaluation"]["extra"]

    evaluation = check(edited(change)).evaluation
    assert evaluation.proposal == "laplace"
    assert evaluation.extra == ()
    assert (evaluation.expost.images, evaluation.expost.importance_samples) == (1000, 200)


def refinable(edited: Callable[[Edit], Path], **block: object) -> None:
    path = edited(
        lambda c: c.update(datasets=["cifar10"], variants=["vae"]) or c["models"].update(vae={"kind": "vae", **block})
    )
    require_refinable(check(path))


@pytest.mark.parametrize(
    "posterior",
    [{"posterior": "planar", "maps": 2}, {"posterior": "iaf", "steps": 2}, {"posterior": "full_covariance"}],
    ids=str,
)
@pytest.mark.parametrize(
    "network", [{"architecture": "conv", "channels": [4] * 5}, {"hidden": [65_536] * 9}], ids=["conv", "large"]
)
def test_what_cannot_be_refined_is_refused_whatever_its_network(
    edited: Callable[[Edit], Path], posterior: dict[str, object], network: dict[str, object]
) -> None:
    with pytest.raises(ConfigError, match=r"^evaluation.proposal: found refined for a .*amortised; it is that of vae$"):
        refinable(edited, **posterior, network=network)


def test_looking_whether_it_can_be_refined_takes_no_memory(edited: Callable[[Edit], Path]) -> None:
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # torch's memory is not Python's
    refinable(edited, prior="vampprior", pseudo_inputs=100_000_000)
    refinable(edited, prior="mixture", components=100_000_000)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB
