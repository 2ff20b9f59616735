"""params.yaml as frozen, typed values. Whatever is wrong with it ends in one line that names the key."""

import difflib
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar, Literal, NamedTuple, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializeAsAny,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from aebench.errors import ConfigError, plain, show
from aebench.numerics import Numerics

# YAML gives lists; frozen values are tuples.
_from_list = BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)


def _workers(value: object) -> object:
    if value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return value
    raise ValueError("allowed: auto, or a whole number of at least 1")


def _line(value: str) -> str:
    if not value.isprintable():
        raise ValueError("allowed: text in one line, without control characters")
    return value


def _folder(value: str) -> str:
    try:
        Path(value).expanduser()
    except RuntimeError:
        raise ValueError("allowed: a folder; there is no user of the name after ~") from None
    return value


NAME = r"^[a-z0-9][a-z0-9_]{0,63}$"
EXPERIMENT = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$"
Name = Annotated[str, Field(pattern=NAME)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
# Far beyond any use, and well below what would end in a failure to allocate memory.
Width = Annotated[int, Field(ge=1, le=65_536)]
Count = Annotated[int, Field(ge=1, le=100_000_000)]
Line = Annotated[str, AfterValidator(_line)]
Widths = Annotated[tuple[Width, ...], _from_list, Field(max_length=100)]
LearningRate = Annotated[float, Field(gt=0)]
Selection = Literal["best_validation", "last"]
Device = Literal["cpu", "cuda"]
Settings = Mapping[str, object]


class Block(BaseModel):
    """A mapping in params.yaml: unknown keys refused, no silent conversion, never changed after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


B = TypeVar("B", bound=Block)


class Data(Block):
    """What share of the training images is held out for validation."""

    validation_fraction: Annotated[float, Field(ge=0, lt=1)]


class Network(Block):
    """The encoder and decoder that all variants share; each file in `models/networks/` extends it with its settings.

    `latent_dim`: L, the size of a code. `EXAMPLE`: what a small network has under its own keys; the tests build it.
    """

    EXAMPLE: ClassVar[Settings] = {}

    architecture: str
    latent_dim: Width

    def misfit(self, shape: tuple[int, int, int]) -> str:
        """Why it does not fit images of shape (C, H, W): key, what was found, what is allowed; empty where it does."""
        return ""


class Training(Block):
    """The one training protocol; each file in `training/optimizers/` extends it with the optimiser's settings.

    `schedule`: how the learning rate goes on after a linear warm-up, over `warmup_share` of all steps. `gradient_clip`:
    the largest norm of a step's gradient. `patience`: how many epochs without a lower validation loss end training.
    `select`: which epoch's weights are kept. `EXAMPLE`: what must stand beside an optimiser's name; the tests use it.
    """

    EXAMPLE: ClassVar[Settings] = {}

    optimizer: str = "adam"
    epochs: Count
    batch_size: Count
    learning_rate: LearningRate
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    gradient_clip: Annotated[float, Field(gt=0)] | None = None
    patience: Count | None = None
    select: Selection


class VariantConfig(Block):
    """A block under `models`; each file in `variants/` extends it with its own settings.

    `network` and `training`: those of all variants, with what the block changes of them, where it changes anything.
    `EXAMPLE`: what a block of this kind has under the keys that it must have; the tests build it.
    """

    EXAMPLE: ClassVar[Settings] = {}

    kind: str
    network: SerializeAsAny[Network] | None = None
    training: SerializeAsAny[Training] | None = None


class Corruption(Block):
    """How an input is corrupted: `masking` sets this share of its pixels to 0, `gaussian` adds noise with this σ."""

    corruption: Literal["masking", "gaussian"]
    corruption_rate: Annotated[float, Field(ge=0)]

    @model_validator(mode="after")
    def _a_share_of_pixels(self) -> "Corruption":
        if self.corruption == "masking" and self.corruption_rate > 1:
            raise ValueError(f"corruption_rate: found {self.corruption_rate} with masking, allowed: at most 1")
        return self


class LikelihoodConfig(Block):
    """A p(x|z); each file in `models/likelihoods/` extends it with its settings.

    `OUTPUTS`: how many values a pixel the decoder gives. `GREY`, `BINARIZED`: what a number in nats is on such pixels.
    `REFUSED`: why binarised pixels cannot have it; empty where they can. `EXAMPLE`: what must stand beside its name;
    the tests use it.
    """

    EXAMPLE: ClassVar[Settings] = {}
    OUTPUTS: ClassVar[int] = 1
    GREY: ClassVar[str]
    BINARIZED: ClassVar[str] = ""
    REFUSED: ClassVar[str] = ""

    likelihood: str

    def note(self, *, binarized: bool) -> str:
        """What a number in nats under it is on this data."""
        return self.BINARIZED if binarized else self.GREY


class PixelLikelihood(Block):
    """Which p(x|z) a variant has. Its name and its settings stand in the variant's block, beside the variant's own."""

    likelihood: SerializeAsAny[LikelihoodConfig]

    @model_serializer(mode="wrap")
    def _as_in_the_file(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        block: dict[str, object] = handler(self)
        of_likelihood = block["likelihood"]
        assert isinstance(of_likelihood, dict)
        return {**block, **of_likelihood}


class Expost(Block):
    """Ex-post density estimation: on how many test images (0: none), with how many importance samples for each."""

    images: Annotated[int, Field(ge=0, le=100_000_000)]
    importance_samples: Count


class Evaluation(Corruption):
    """What is measured on the test split.

    `importance_samples`: K for each image. `proposal`: what these samples are drawn from. The corruption is that of
    `denoising_mse`.
    """

    importance_samples: Count
    proposal: Literal["amortised", "refined"] = "amortised"
    expost: Expost = Expost(images=1000, importance_samples=200)


class Execution(Block):
    """How the work is done; no result depends on it."""

    workers: Annotated[int | str, BeforeValidator(_workers)]
    source_dir: Annotated[Line, AfterValidator(_folder)] | None
    store_megabytes: Annotated[int, Field(ge=0)] = 2000
    engine: Literal["processes", "dask"] = "processes"
    address: Line | None = None

    @model_validator(mode="after")
    def _a_cluster_has_an_address(self) -> "Execution":
        if self.engine == "dask" and not self.address:
            raise ValueError(
                "address: found none with engine dask, allowed: that of a running scheduler, e.g. tcp://host:8786"
            )
        return self


class Tracking(Block):
    """Where MLflow files the runs."""

    experiment: Annotated[str, Field(pattern=EXPERIMENT)]


class RunConfig(Block):
    """Everything but data and seed that determines a run: one variant's block with its overrides applied."""

    variant: str
    model: SerializeAsAny[VariantConfig]
    network: SerializeAsAny[Network]
    training: SerializeAsAny[Training]
    data: Data
    numerics: Numerics
    device: Device = "cpu"


class Params(Block):
    """The whole of params.yaml."""

    datasets: Annotated[tuple[Name, ...], _from_list, Field(min_length=1)]
    variants: Annotated[tuple[str, ...], _from_list, Field(min_length=1)]
    seeds: Annotated[tuple[Seed, ...], _from_list, Field(min_length=1)]
    numerics: Numerics
    device: Device
    data: Data
    network: SerializeAsAny[Network]
    training: SerializeAsAny[Training]
    models: dict[Name, SerializeAsAny[VariantConfig]]
    evaluation: Evaluation
    execution: Execution
    tracking: Tracking

    def modules(self) -> dict[str, tuple[str, ...]]:
        """For each variant the modules that are imported by names: of its kind, network, optimiser and likelihood."""
        return {variant: self._modules(variant) for variant in self.variants}

    def _modules(self, variant: str) -> tuple[str, ...]:
        run = self.run(variant)
        modules: tuple[str, ...] = (
            f"aebench.variants.{run.model.kind}",
            f"aebench.models.networks.{run.network.architecture}",
            f"aebench.training.optimizers.{run.training.optimizer}",
        )
        if isinstance(run.model, PixelLikelihood):
            modules += (f"aebench.models.likelihoods.{run.model.likelihood.likelihood}",)
        return modules

    def run(self, variant: str) -> RunConfig:
        """The configuration of `variant`'s runs: what all variants share, and what its block overrides of that."""
        model = self.models[variant]
        return RunConfig(
            variant=variant,
            model=model.model_copy(update={"network": None, "training": None}),
            network=model.network or self.network,
            training=model.training or self.training,
            data=self.data,
            numerics=self.numerics,
            device=self.device,
        )


def held_out_images(validation_fraction: float, train_images: int) -> int:
    """How many of the training images are validation images, rounded to the nearest whole number."""
    return round(validation_fraction * train_images)


class DatasetFacts(NamedTuple):
    """What the check of params.yaml must know of a data set.

    `train_images` and `shape`, (C, H, W), are None where only the files say it.
    """

    train_images: int | None
    shape: tuple[int, int, int] | None
    binarized: bool


Kinds = Mapping[str, type[VariantConfig]]
Architectures = Mapping[str, type[Network]]
Optimizers = Mapping[str, type[Training]]
Likelihoods = Mapping[str, type[LikelihoodConfig]]
Parsers = Mapping[str, Callable[[object, str], Block]]


def read(
    path: Path,
    *,
    kinds: Kinds,
    architectures: Architectures,
    optimizers: Optimizers,
    likelihoods: Likelihoods,
    datasets: Mapping[str, DatasetFacts],
) -> Params:
    """Read and check params.yaml.

    Args:
        path: the file.
        kinds: for every file in `variants/` its configuration.
        architectures: for every file in `models/networks/` its configuration.
        optimizers: for every file in `training/optimizers/` its configuration.
        likelihoods: for every file in `models/likelihoods/` its configuration.
        datasets: every known data set.

    Raises:
        ConfigError: one line with the key, what was found and what is allowed.
    """
    try:
        parsers: Parsers = {
            "network": partial(parse_network, architectures),
            "training": partial(_parse_named, optimizers, "optimizer", "adam"),
        }
        return _read(path, kinds, likelihoods, parsers, datasets)
    except ConfigError as error:
        raise ConfigError(f"{path.name}: {error}") from None


def read_numerics(path: Path) -> Numerics:
    """`numerics` alone, which is needed before torch is; `portable` where the file is not in order."""
    from aebench.yaml import read as read_yaml

    try:
        found = read_yaml(path)
        return "native" if isinstance(found, dict) and found.get("numerics") == "native" else "portable"
    except ConfigError:
        return "portable"


def _read(
    path: Path, kinds: Kinds, likelihoods: Likelihoods, parsers: Parsers, datasets: Mapping[str, DatasetFacts]
) -> Params:
    from aebench.yaml import read as read_yaml  # here, so that a model can be built where nothing reads params.yaml

    raw = read_yaml(path)
    if not isinstance(raw, dict):
        raise ConfigError(f"found {show(raw)}, allowed: a mapping of {', '.join(Params.model_fields)}")
    shared = {key: parse_shared(raw[key], key) for key, parse_shared in parsers.items() if key in raw}
    raw |= shared
    blocks = raw.get("models")
    if isinstance(blocks, dict):
        parse_block = partial(parse_variant, kinds, likelihoods)
        raw["models"] = {name: _variant(name, block, parse_block, shared, parsers) for name, block in blocks.items()}
    params = parse(Params, raw)
    for key, values, known in (
        ("datasets", params.datasets, datasets),
        ("variants", params.variants, params.models),
        ("seeds", params.seeds, None),
    ):
        seen: set[object] = set()
        for position, value in enumerate(values):
            if value in seen:
                raise ConfigError(f"{key}[{position}]: found {show(value)} twice, allowed: each once")
            if known is not None and value not in known:
                allowed = _allowed(str(value), map(str, known)) + _BESIDES.get(key, "")
                raise ConfigError(f"{key}[{position}]: found {show(value)}, {allowed}")
            seen.add(value)
    for variant in params.variants:
        training = params.run(variant).training
        needs = (
            (training.select == "best_validation", "selects its weights by best_validation", "select: last"),
            (training.patience is not None, f"has a patience of {training.patience} epochs", "patience: null"),
        )
        for needed, why, otherwise in needs:
            if needed and params.data.validation_fraction == 0:
                raise ConfigError(
                    f"data.validation_fraction: found 0 while {variant} {why}, "
                    f"allowed: a share above 0, or training.{otherwise}"
                )
    for dataset in params.datasets:
        _check_with_data(params, dataset, datasets[dataset], likelihoods)
    return params


def _check_with_data(params: Params, dataset: str, facts: DatasetFacts, likelihoods: Likelihoods) -> None:
    fraction, images = params.data.validation_fraction, facts.train_images
    if images is not None:
        held_out = held_out_images(fraction, images)
        if (held_out < SMALLEST_SPLIT and fraction > 0) or images - held_out < SMALLEST_SPLIT:
            raise ConfigError(
                f"data.validation_fraction: found {fraction}, which takes {held_out} of the {images} training "
                f"images of {dataset}, allowed: 0, or a share that leaves {SMALLEST_SPLIT} images on both sides"
            )
    for variant in params.variants:
        network = params.run(variant).network
        if facts.shape and (misfit := network.misfit(facts.shape)):
            where = "network" if network is params.network else f"models.{variant}.network"
            raise ConfigError(f"{dataset}: {where}.{misfit}")
        model = params.models[variant]
        if facts.binarized and isinstance(model, PixelLikelihood) and model.likelihood.REFUSED:
            allowed = ", ".join(name for name, block in likelihoods.items() if not block.REFUSED)
            raise ConfigError(
                f"models.{variant}.likelihood: found {model.likelihood.likelihood} with {dataset}, whose pixels are "
                f"0 or 1: {model.likelihood.REFUSED}, allowed: {allowed}"
            )


def _variant(
    name: object,
    block: object,
    parse_block: Callable[[object, str], VariantConfig],
    shared: Mapping[str, Block],
    parsers: Parsers,
) -> VariantConfig:
    """A block under `models`; what it changes of a `shared` block is taken for that block, changed."""
    where = f"models.{plain(name)}"
    if not isinstance(block, dict):
        return parse_block(block, where)
    whole = {key: value for key, value in block.items() if key not in parsers}
    for key in (key for key in shared if key in block):
        whole[key] = parsers[key](_changed(shared[key], block[key], f"{where}.{key}"), f"{where}.{key}")
    return parse_block(whole, where)


def _changed(shared: Block, changes: object, where: str) -> dict[str, object]:
    """The settings of a block with some of them changed; those of one network or optimiser mean nothing to another."""
    if not isinstance(changes, dict):
        raise ConfigError(f"{where}: found {show(changes)}, allowed: a mapping")
    (base,) = (base for base in (Network, Training) if isinstance(shared, base))
    kept = shared.model_dump()
    if any(key in changes and changes[key] != kept[key] for key in ("architecture", "optimizer") if key in kept):
        kept = {key: kept[key] for key in base.model_fields}
    # An empty value leaves a setting as it is, unless it is one: `patience: null` waits for ever.
    nullable = {key for key, field in base.model_fields.items() if field.default is None}
    return {**kept, **{key: value for key, value in changes.items() if value is not None or key in nullable}}


def parse_variant(kinds: Kinds, likelihoods: Likelihoods, value: object, where: str = "") -> VariantConfig:
    """The configuration of a variant; `where` is the key under which it stands.

    Raises:
        ConfigError: one line about the first thing that is wrong.
    """
    within = _within(where)
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: found {show(value)}, allowed: a mapping with a kind")
    if "kind" not in value:
        raise ConfigError(f"{within}kind: missing, allowed: {', '.join(kinds)}")
    kind = value["kind"]
    if not isinstance(kind, str) or kind not in kinds:
        raise ConfigError(f"{within}kind: found {show(kind)}, {_allowed(str(kind), kinds)}")
    if not issubclass(kinds[kind], PixelLikelihood):
        return parse(kinds[kind], value, where)
    likelihood, rest = _taken_out(likelihoods, value, where)
    return parse(kinds[kind], {**rest, "likelihood": likelihood}, where, besides=type(likelihood).model_fields)


def _taken_out(
    likelihoods: Likelihoods, block: Mapping[object, object], where: str
) -> tuple[LikelihoodConfig, dict[object, object]]:
    """The likelihood in a variant's block, with its settings, and what else stands there."""
    name = _name(likelihoods, "likelihood", "bernoulli", block, where)
    owners = {key: [name for name, of_one in likelihoods.items() if key in of_one.model_fields] for key in block}
    for key, found in block.items():
        if owners[key] and name not in owners[key] and found is not None:
            allowed = f"with likelihood: {', '.join(owners[key])}"
            raise ConfigError(f"{_within(where)}{key}: found {show(found)} with {name}, allowed: {allowed}")
    own = {key: found for key, found in block.items() if name in owners[key]}
    return parse(likelihoods[name], own, where), {key: block[key] for key in block if not owners[key]}


def parse_network(architectures: Architectures, value: object, where: str = "network") -> Network:
    """The configuration of a network, an MLP unless `value` says otherwise; `where` is the key under which it stands.

    Raises:
        ConfigError: one line about the first thing that is wrong.
    """
    return _parse_named(architectures, "architecture", "mlp", value, where)


def _parse_named(blocks: Mapping[str, type[B]], key: str, default: str, value: object, where: str) -> B:
    """A block that is one of `blocks` by what stands under `key`."""
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: found {show(value)}, allowed: a mapping")
    return parse(blocks[_name(blocks, key, default, value, where)], value, where)


def _name(blocks: Mapping[str, type[Block]], key: str, default: str, value: Mapping[object, object], where: str) -> str:
    """The name of one of `blocks` that stands under `key`."""
    name = value.get(key, default)
    if not isinstance(name, str) or name not in blocks:
        raise ConfigError(f"{_within(where)}{key}: found {show(name)}, {_allowed(str(name), blocks)}")
    return name


def _within(where: str) -> str:
    """What stands before a key of the block under `where`."""
    return f"{where}." if where else ""


# Fewer images than this are no split to fit or to select on.
SMALLEST_SPLIT = 50

# What else is allowed, by key.
_BESIDES = {"datasets": "; or NAME where datasets/ holds NAME.npz or a folder NAME of images"}

# What pydantic calls by Python's names, in those of YAML.
_TYPES = {
    "dict_type": "a mapping",
    "float_type": "a number",
    "int_type": "a whole number",
    "string_type": "text",
    "tuple_type": "a list",
}

# What they allow, in words.
_PATTERNS = {
    NAME: "small letters, digits and underscores, at most 64",
    EXPERIMENT: "letters, digits, underscores, points and hyphens, at most 100",
}


def parse(block: type[B], value: object, where: str = "", besides: Iterable[str] = ()) -> B:
    """Check `value` against `block`; `where` is the key under which it stands, `besides` what else may stand there.

    Raises:
        ConfigError: one line about the first thing that is wrong.
    """
    try:
        return block.model_validate(value)
    except ValidationError as invalid:
        error = invalid.errors()[0]
        location = [part for part in error["loc"] if part != "[key]"]
        key = where + "".join(f"[{part}]" if isinstance(part, int) else f".{plain(part)}" for part in location)
        key = key.removeprefix(".") or "the file"
        found = f"found {show(error['input'])}"
        message = error["msg"].removeprefix("Value error, ")
        if error["type"] == "extra_forbidden":
            known = dict.fromkeys((*_fields(block, location[:-1]), *(besides if len(location) == 1 else ())))
            text = f"unknown key, {_allowed(str(location[-1]), known)}"
        elif error["type"] == "invalid_key":
            text = f"unknown key, allowed: {', '.join(_fields(block, location[:-1]))}"
        elif error["type"] in _TYPES:
            text = f"{found}, allowed: {_TYPES[error['type']]}"
        elif error["type"] == "missing":
            text = "missing, it has no default"
        elif error["type"] == "literal_error":
            text = f"{found}, {_allowed(str(error['input']), error['ctx']['expected'].replace(' or ', ', '))}"
        elif error["type"] == "value_error":
            text = f"{found}, {message}"
            if isinstance(error["input"], dict):  # a check across keys, which names its own
                key, text = f"{key}.{message}".split(": ", 1)
        elif error["type"] == "string_pattern_mismatch":
            text = f"{found}, allowed: {_PATTERNS[error['ctx']['pattern']]}, beginning with a letter or digit"
        else:
            text = f"{found}, allowed: {message.removeprefix('Input should be ').removeprefix('Input should ')}"
        raise ConfigError(f"{key}: {text}") from None


def _fields(block: type[Block], location: Iterable[int | str]) -> list[str]:
    """The keys of the block at `location` inside `block`."""
    for part in location:
        annotation = block.model_fields[str(part)].annotation
        assert isinstance(annotation, type)
        assert issubclass(annotation, Block)
        block = annotation
    return list(block.model_fields)


def _allowed(found: str, names: Iterable[str] | str) -> str:
    """The allowed names, and the nearest to `found` first where one is near."""
    known = [name.strip().strip("'") for name in (names.split(",") if isinstance(names, str) else map(str, names))]
    near = difflib.get_close_matches(found, known, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return f"allowed: {', '.join(known)}{hint}"
