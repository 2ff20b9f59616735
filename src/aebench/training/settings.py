"""params.yaml, read and checked against all that there is: variants, networks, likelihoods, optimisers, data sets."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

from aebench import yaml
from aebench.config import Block, Network, Params, PixelLikelihood, Training, VariantConfig, part_types
from aebench.data.datasets import KnownDataset, known_datasets, named_dataset
from aebench.data.description import BINARIZED
from aebench.data.raw_dataset import SMALLEST_SPLIT
from aebench.data.user_datasets import UserDataset
from aebench.errors import ConfigError, DataError, plain, show
from aebench.models.likelihoods import likelihoods
from aebench.models.networks import architectures
from aebench.parsing import Registries, allowed, parse, parse_named, parse_with_parts
from aebench.training.optimizers import optimizers
from aebench.training.schedules import schedules
from aebench.training.stopping import stopping_rules
from aebench.variants import configuration

# What else is allowed as a data set.
_BESIDES = (
    f"; grey ones also as {', '.join(f'NAME{suffix}' for suffix in BINARIZED)}; "
    "or NAME where datasets/ holds NAME.npz or a folder NAME of images; or two of these as NAME_vs_OTHER"
)

Parsers = Mapping[str, Callable[[object, str], Block]]


def read_params(path: Path, folders: Iterable[Path] = ()) -> Params:
    """Read and check the file; the user's own data sets lie in `folders`.

    Raises:
        ConfigError: one line with the key, what was found and what is allowed.
        DataError: two data sets have one name.
    """
    known = known_datasets(folders)
    try:
        params = _parsed(yaml.read(path))
        _check_names(params)
        datasets = _datasets(params, known)
        for variant in params.variants:
            _check_validation(params, variant)
            if misfit := params.models[variant].misfit(params.run(variant).network):
                raise ConfigError(f"models.{variant}.{misfit}")
            _check_batch(params, variant)
            _check_warmup(params, variant)
        for name, dataset in datasets.items():
            _check_with_data(params, name, dataset)
    except ConfigError as error:
        raise ConfigError(f"{path.name}: {error}") from None
    return params


def check_with_fetched(params: Params, folders: Iterable[Path], data: Callable[[str], Path]) -> None:
    """Check `params` with the user's data sets of which `data`, the place of a data file by name, has the images.

    Raises:
        ConfigError: one line with the key, what was found and what is allowed.
    """
    known = known_datasets(folders)
    for name in params.datasets:
        dataset = named_dataset(name, known)
        if isinstance(dataset, UserDataset):
            _check_with_data(params, name, dataset.as_fetched(data(name)))


def _parsed(raw: object) -> Params:
    """The blocks, each checked by itself."""
    if not isinstance(raw, dict):
        raise ConfigError(f"found {show(raw)}, allowed: a mapping of {', '.join(Params.model_fields)}")
    parsers: Parsers = {
        "network": partial(parse_named, architectures(), "architecture", default="mlp"),
        "training": parse_training,
    }
    shared = {key: parse_shared(raw[key], key) for key, parse_shared in parsers.items() if key in raw}
    raw |= shared
    blocks = raw.get("models")
    if isinstance(blocks, dict):
        raw["models"] = {name: _variant(name, block, shared, parsers) for name, block in blocks.items()}
    return parse(Params, raw)


def parse_training(value: object, where: str = "training") -> Training:
    """The block `training`; `where` is the key under which it stands.

    Raises:
        ConfigError: one line about the first thing that is wrong.
    """
    parts: Registries = {"schedule": schedules(), "stopping": stopping_rules()}
    return parse_with_parts(optimizers(), "optimizer", parts, value, where, default="adam")


def _variant(name: object, block: object, shared: Mapping[str, Block], parsers: Parsers) -> VariantConfig:
    """A block under `models`; what it changes of a `shared` block is taken for that block, changed."""
    where = f"models.{plain(name)}"
    if not isinstance(block, dict):
        return configuration(block, where)
    whole = {key: value for key, value in block.items() if key not in parsers}
    for key in (key for key in shared if key in block):
        whole[key] = parsers[key](_changed(shared[key], block[key], f"{where}.{key}"), f"{where}.{key}")
    return configuration(whole, where)


def _changed(shared: Block, changes: object, where: str) -> dict[str, object]:
    """The settings of a block with some of them changed.

    Those of one network, optimiser, schedule or stopping rule mean nothing to another.
    """
    if not isinstance(changes, dict):
        raise ConfigError(f"{where}: found {show(changes)}, allowed: a mapping")
    key, base = ("architecture", Network) if isinstance(shared, Network) else ("optimizer", Training)
    choices: dict[str, tuple[type[Block], type[Block]]] = {key: (type(shared), base)}
    choices |= {key: (type(getattr(shared, key)), of_part) for key, of_part in part_types(base).items()}
    kept = shared.model_dump()
    for key, (chosen, of_all) in choices.items():
        if changes.get(key) not in (None, kept[key]):
            for own in chosen.model_fields.keys() - of_all.model_fields.keys():
                del kept[own]
    # An empty value leaves a setting as it is, unless it is one: `patience: null` waits for ever.
    fields = [field for chosen, _ in choices.values() for field in chosen.model_fields.items()]
    nullable = {key for key, field in fields if field.default is None}
    return {**kept, **{key: value for key, value in changes.items() if value is not None or key in nullable}}


def _check_names(params: Params) -> None:
    """Refuse what is named twice, and a variant that is not there."""
    for key, values, known in (
        ("datasets", params.datasets, None),
        ("variants", params.variants, params.models),
        ("seeds", params.seeds, None),
    ):
        seen: set[object] = set()
        for position, value in enumerate(values):
            if value in seen:
                raise ConfigError(f"{key}[{position}]: found {show(value)} twice, allowed: each once")
            if known is not None and value not in known:
                raise ConfigError(f"{key}[{position}]: found {show(value)}, {allowed(str(value), known)}")
            seen.add(value)


def _datasets(params: Params, known: Mapping[str, KnownDataset]) -> dict[str, KnownDataset]:
    """The data sets that are named; one that is not there is refused."""
    named = {}
    for position, name in enumerate(params.datasets):
        where = f"datasets[{position}]: found {show(name)}"
        try:
            named[name] = named_dataset(name, known)
        except KeyError as unknown:
            part = str(unknown.args[0])
            of_two = f", of which {part or 'nothing'} is no data set" if part != name else ""
            listed = [one for one, about in known.items() if about.binarization == "none"]
            raise ConfigError(f"{where}{of_two}, {allowed(part, listed, known)}{_BESIDES}") from None
        except DataError as error:
            raise ConfigError(f"{where}, {error}") from None
    return named


def _check_validation(params: Params, variant: str) -> None:
    """Refuse a training that looks at a validation loss where nothing is held out."""
    training = params.run(variant).training
    needs = (
        ("selects its weights by best_validation", "select: last") if training.select == "best_validation" else None,
        training.stopping.looks_at_validation(),
        training.schedule.looks_at_validation(),
    )
    for why, otherwise in filter(None, needs):
        if not params.data.any:
            above = "a share above 0" if params.data.validation_images is None else "a number above 0"
            raise ConfigError(
                f"data.{params.data.key}: found 0 while {variant} {why}, allowed: {above}, or training.{otherwise}"
            )


def _check_batch(params: Params, variant: str) -> None:
    """Refuse batches in which a term of the loss would be 0 whatever the model."""
    model, batch_size = params.models[variant], params.run(variant).training.batch_size
    smallest = max(model.SMALLEST_BATCH, getattr(getattr(model, "objective", model), "SMALLEST_BATCH", 1))
    if batch_size < smallest:
        why = f"while {variant} compares the codes of a batch"
        raise ConfigError(f"training.batch_size: found {batch_size} {why}, allowed: at least {smallest}")


def _check_warmup(params: Params, variant: str) -> None:
    """Refuse a weight of the KL divergence that would never come to β."""
    model, epochs = params.models[variant], params.run(variant).training.epochs
    warmup = getattr(getattr(model, "objective", model), "beta_warmup_epochs", 0)
    if warmup > epochs:
        where = f"models.{variant}.beta_warmup_epochs"
        raise ConfigError(f"{where}: found {warmup}, allowed: at most training.epochs, which are {epochs}")


def _check_with_data(params: Params, name: str, dataset: KnownDataset) -> None:
    data, images = params.data, dataset.train_images
    if images is not None:
        held_out = data.images(images)
        if (held_out < SMALLEST_SPLIT and data.any) or images - held_out < SMALLEST_SPLIT:
            found, what = (
                (f"{data.validation_fraction}, which takes {held_out}", "share")
                if data.validation_images is None
                else (f"{held_out}", "number")
            )
            raise ConfigError(
                f"data.{data.key}: found {found} of the {images} training images of {name}, "
                f"allowed: 0, or a {what} that leaves {SMALLEST_SPLIT} images on both sides"
            )
        for variant in params.variants:
            for key in part_types(type(params.models[variant])):
                if misfit := getattr(params.models[variant], key).misfit(images - held_out):
                    raise ConfigError(f"models.{variant}.{misfit} of {name}")
    for variant in params.variants:
        network = params.run(variant).network
        if dataset.shape and (misfit := network.misfit(dataset.shape)):
            where = "network" if network is params.network else f"models.{variant}.network"
            raise ConfigError(f"{name}: {where}.{misfit}")
        model = params.models[variant]
        if dataset.binarization != "none" and isinstance(model, PixelLikelihood) and model.likelihood.REFUSED:
            others = ", ".join(name for name, block in likelihoods().items() if not block.REFUSED)
            raise ConfigError(
                f"models.{variant}.likelihood: found {model.likelihood.likelihood} with {name}, whose pixels are "
                f"0 or 1: {model.likelihood.REFUSED}, allowed: {others}"
            )
