"""The blocks of params.yaml, as frozen, typed values."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializeAsAny,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from aebench.errors import ConfigError
from aebench.numerics import Numerics

# YAML gives lists; frozen values are tuples.
from_list = BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)


def _workers(value: object) -> object:
    if value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return value
    raise ValueError("allowed: auto, or a whole number of at least 1")


def _enough_images(value: int) -> int:
    if value != 0 and not 50 <= value <= 100_000_000:
        raise ValueError("allowed: 0, or from 50, whose mean means something, to 100000000")
    return value


def _no_image_or_several(value: int) -> int:
    if value == 1:
        raise ValueError("allowed: 0, or at least 2, of which a mean has an error")
    return value


def _line(value: str) -> str:
    if not value.isprintable():
        raise ValueError("allowed: text in one line, without control characters")
    return value


def _folder(value: str) -> str:
    try:
        Path(value).expanduser().is_dir()
    except RuntimeError:
        raise ValueError("allowed: a folder; there is no user of the name after ~") from None
    except OSError as error:
        raise ValueError(f"allowed: a folder; {error.strerror}") from None
    return value


NAME = r"^[a-z0-9][a-z0-9_]{0,63}$"
EXPERIMENT = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$"
Name = Annotated[str, Field(pattern=NAME)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
# Far beyond any use, and well below what would end in a failure to allocate memory.
Width = Annotated[int, Field(ge=1, le=65_536)]
Count = Annotated[int, Field(ge=1, le=100_000_000)]
Layers = Annotated[int, Field(ge=1, le=1000)]
Line = Annotated[str, AfterValidator(_line)]
Widths = Annotated[tuple[Width, ...], from_list, Field(max_length=100)]
LearningRate = Annotated[float, Field(gt=0)]
# Of a term of a loss; what is larger is no number in single precision, or its products are none.
Weight = Annotated[float, Field(ge=0, le=1e9)]
Selection = Literal["best_validation", "last"]
Device = Literal["cpu", "cuda"]
Settings = Mapping[str, object]


class Block(BaseModel):
    """A mapping in params.yaml: unknown keys refused, no silent conversion, never changed after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Data(Block):
    """Which of the training images are held out for validation.

    `validation_fraction`: what share of them; or `validation_images`: how many. `validation`: drawn at `random`, once
    for all variants and seeds, or the `last` of the data set's own order, as a published split may have it.
    """

    validation_fraction: Annotated[float, Field(ge=0, lt=1)] | None = None
    validation_images: Annotated[int, Field(ge=0, le=100_000_000)] | None = None
    validation: Literal["random", "last"] = "random"

    @model_validator(mode="after")
    def _a_share_or_a_number(self) -> "Data":
        if self.validation_fraction is None and self.validation_images is None:
            raise ValueError("validation_fraction: missing, allowed: a share, or validation_images in its place")
        if self.validation_fraction is not None and self.validation_images is not None:
            found = f"found {self.validation_images} beside validation_fraction {self.validation_fraction}"
            raise ValueError(f"validation_images: {found}, allowed: one of the two")
        return self

    @model_serializer(mode="wrap")
    def _what_is_set(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Without what is left at its default: files and keys of runs are what they were before it could be set."""
        block: dict[str, object] = handler(self)
        return {key: value for key, value in block.items() if value != type(self).model_fields[key].default}

    @property
    def key(self) -> str:
        """The key that says how many."""
        return "validation_fraction" if self.validation_images is None else "validation_images"

    @property
    def any(self) -> bool:
        """Whether images are to be held out."""
        return bool(getattr(self, self.key))

    def images(self, train_images: int) -> int:
        """How many of so many training images are held out; a share is rounded to the nearest whole number."""
        if self.validation_images is not None:
            return self.validation_images
        return round((self.validation_fraction or 0) * train_images)


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


class Part(Block):
    """What a variant or its training is made of by name: a likelihood, a schedule, and so on, each a file of a folder.

    `EXAMPLE`: what must stand beside its name; the tests use it. `DEFAULT`: the name where none is given.
    """

    EXAMPLE: ClassVar[Settings] = {}
    DEFAULT: ClassVar[str]

    def misfit(self, train_images: int) -> str:
        """Why it does not fit so many training images: key, what was found, what is allowed; empty where it does."""
        return ""


def part_types(block: type[Block]) -> dict[str, type[Part]]:
    """The parts of a block by their keys."""
    annotations = {key: field.annotation for key, field in block.model_fields.items()}
    return {key: of for key, of in annotations.items() if isinstance(of, type) and issubclass(of, Part)}


class Parts(Block):
    """What has parts: their names and settings stand in its own block, beside its own."""

    @model_serializer(mode="wrap")
    def _as_in_the_file(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        block: dict[str, object] = handler(self)
        for key in part_types(type(self)):
            of_part = block[key]
            assert isinstance(of_part, dict)
            block |= of_part
        return block


class ScheduleConfig(Part):
    """How the learning rate goes on after the warm-up; each file in `training/schedules/` extends it."""

    DEFAULT = "constant"

    schedule: str

    def share_of_step(self, done: float) -> float:
        """The share of the learning rate that is left when a share `done` of the steps after the warm-up is done."""
        return 1.0

    def share_of_epoch(self, losses: Sequence[float], warmup_epochs: int) -> float:
        """The share of that which is taken in the next epoch, by the validation loss of each epoch so far.

        `warmup_epochs`: of a variant's own warm-up, in which a loss says nothing yet.
        """
        return 1.0

    def looks_at_validation(self) -> tuple[str, str] | None:
        """Why it needs a validation loss, in words, and the setting that needs none; None where it needs none."""
        return None

    def conflict(self, stopping: "StoppingConfig") -> str:
        """Why it does not go with a stopping rule: key, what was found, what is allowed; empty where it does."""
        return ""


class StoppingConfig(Part):
    """What ends training before its last epoch; each file in `training/stopping/` extends it."""

    DEFAULT = "patience"

    stopping: str

    def ends(self, losses: Sequence[float], warmup_epochs: int) -> bool:
        """Whether training ends, by the validation loss of each epoch so far; `warmup_epochs` as for a schedule."""
        return False

    def in_words(self, losses: Sequence[float]) -> str:
        """What it waits for, in a few words for whoever watches; empty where for nothing."""
        return ""

    def looks_at_validation(self) -> tuple[str, str] | None:
        """Why it needs a validation loss, in words, and the setting that needs none; None where it needs none."""
        return None


class Training(Parts):
    """The one training protocol; each file in `training/optimizers/` extends it with the optimiser's settings.

    `schedule`: how the learning rate goes on after a linear warm-up, over `warmup_share` of all steps. `stopping`: what
    ends training before the last of its `epochs`. `gradient_clip`: the largest norm of a step's gradient. `select`:
    which epoch's weights are kept. `EXAMPLE`: what must stand beside an optimiser's name; the tests use it.
    """

    EXAMPLE: ClassVar[Settings] = {}

    optimizer: str = "adam"
    epochs: Count
    batch_size: Count
    learning_rate: LearningRate
    schedule: SerializeAsAny[ScheduleConfig]
    stopping: SerializeAsAny[StoppingConfig]
    warmup_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    gradient_clip: Annotated[float, Field(gt=0)] | None = None
    select: Selection

    @model_validator(mode="after")
    def _go_together(self) -> "Training":
        if conflict := self.schedule.conflict(self.stopping):
            raise ValueError(conflict)
        return self


class VariantConfig(Block):
    """A block under `models`; each file in `variants/` extends it with its own settings.

    `network` and `training`: those of all variants, with what the block changes of them, where it changes anything.
    `EXAMPLE`: what a block of this kind has under the keys that it must have; the tests build it. `SMALLEST_BATCH`: of
    how many images a batch must be: a loss that compares the codes of a batch has nothing to compare in one.
    """

    EXAMPLE: ClassVar[Settings] = {}
    SMALLEST_BATCH: ClassVar[int] = 1

    kind: str
    network: SerializeAsAny[Network] | None = None
    training: SerializeAsAny[Training] | None = None

    def misfit(self, network: Network) -> str:
        """Why it does not fit a network: key, what was found, what is allowed; empty where it does."""
        return ""


class Corruption(Block):
    """How an input is corrupted.

    `masking` sets this share of its pixels to 0, `salt_and_pepper` to 0 or 1 by chance; `gaussian` adds noise with
    this σ.
    """

    corruption: Literal["masking", "salt_and_pepper", "gaussian"]
    corruption_rate: Annotated[float, Field(ge=0, le=1e6)]

    @model_validator(mode="after")
    def _a_share_of_pixels(self) -> "Corruption":
        if self.corruption != "gaussian" and self.corruption_rate > 1:
            found = f"found {self.corruption_rate} with {self.corruption}"
            raise ValueError(f"corruption_rate: {found}, allowed: at most 1")
        return self


class LikelihoodConfig(Part):
    """A p(x|z); each file in `models/likelihoods/` extends it with its settings.

    `OUTPUTS`: how many values a pixel the decoder gives. `GREY`, `BINARIZED`: what a number in nats is on such pixels.
    `OF_8_BITS`: whether it is a probability of the 256 values of an 8-bit pixel. `REFUSED`: why binarised pixels cannot
    have it; empty where they can.
    """

    DEFAULT = "bernoulli"
    OUTPUTS: ClassVar[int] = 1
    GREY: ClassVar[str]
    BINARIZED: ClassVar[str] = ""
    OF_8_BITS: ClassVar[bool] = False
    REFUSED: ClassVar[str] = ""

    likelihood: str

    def note(self, *, binarized: bool) -> str:
        """What a number in nats under it is on this data."""
        return self.BINARIZED if binarized else self.GREY


class PriorConfig(Part):
    """A p(z); each file in `models/priors/` extends it with its settings."""

    DEFAULT = "standard_normal"

    prior: str

    @property
    def posteriors(self) -> tuple[str, ...]:
        """The posteriors that it can be had with; empty where that is any."""
        return ()


class PosteriorConfig(Part):
    """A q(z|x); each file in `models/posteriors/` extends it with its settings."""

    DEFAULT = "diagonal"

    posterior: str


class ObjectiveConfig(Part):
    """What training maximises; each file in `models/objectives/` extends it with its settings.

    `beta`: the weight of the divergence (Higgins et al. 2017), which rises linearly over the warm-up epochs.
    `SMALLEST_BATCH` is as for a variant.
    """

    DEFAULT = "elbo"

    SMALLEST_BATCH: ClassVar[int] = 1

    objective: str
    beta: Weight = 1.0
    beta_warmup_epochs: Annotated[int, Field(ge=0, le=100_000_000)] = 0

    @property
    def in_words(self) -> str:
        """Its name, with the settings on which `priors` and `posteriors` depend, if any."""
        return self.objective

    @property
    def surrogate_gradient(self) -> bool:
        """Whether its gradient is meant to be another than that of its values."""
        return False

    @property
    def draws(self) -> tuple[int, ...]:
        """How many draws of noise an image has in the loss, as a shape: empty for one."""
        return ()

    @property
    def priors(self) -> tuple[str, ...]:
        """The priors that it can be had with; empty where that is any."""
        return ()

    @property
    def posteriors(self) -> tuple[str, ...]:
        """The posteriors that it can be had with; empty where that is any."""
        return ()


class PixelLikelihood(Parts):
    """Which p(x|z) a variant has."""

    likelihood: SerializeAsAny[LikelihoodConfig]


class Expost(Block):
    """Ex-post density estimation: on how many test images (0: none), with how many importance samples for each."""

    images: Annotated[int, Field(ge=0, le=100_000_000), AfterValidator(_no_image_or_several)]
    importance_samples: Count


class Evaluation(Corruption):
    """What is measured on the test split.

    `importance_samples`: K for each image. `proposal`: what these samples are drawn from. `bound_gap_images`: on how
    many images, simulated from the model, the bounds from both sides are compared; 0: on none. `extra`: which optional
    families of metrics are measured too. The corruption is that of `denoising_mse`.
    """

    importance_samples: Count
    proposal: Literal["laplace", "amortised", "refined"] = "laplace"
    bound_gap_images: Annotated[int, AfterValidator(_enough_images)] = 500
    expost: Expost = Expost(images=1000, importance_samples=200)
    # Where it is empty, no file says more than it did before there was such a key.
    extra: Annotated[tuple[Name, ...], from_list, Field(exclude_if=lambda names: not names)] = ()


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

    datasets: Annotated[tuple[Name, ...], from_list, Field(min_length=1)]
    variants: Annotated[tuple[str, ...], from_list, Field(min_length=1)]
    seeds: Annotated[tuple[Seed, ...], from_list, Field(min_length=1)]
    numerics: Numerics
    device: Device
    data: Data
    network: SerializeAsAny[Network]
    training: SerializeAsAny[Training]
    models: Annotated[dict[Name, SerializeAsAny[VariantConfig]], Field(min_length=1)]
    evaluation: Evaluation
    execution: Execution
    tracking: Tracking

    def modules(self, variant: str) -> tuple[str, ...]:
        """The modules that a variant's stages import by names: of its kind, network, training and parts."""
        run = self.run(variant)
        modules: tuple[str, ...] = (
            f"aebench.variants.{run.model.kind}",
            f"aebench.models.networks.{run.network.architecture}",
            f"aebench.training.optimizers.{run.training.optimizer}",
            f"aebench.training.schedules.{run.training.schedule.schedule}",
            f"aebench.training.stopping.{run.training.stopping.stopping}",
        )
        chosen = {key: getattr(getattr(run.model, key), key) for key in part_types(type(run.model))}
        return modules + tuple(f"aebench.models.{key}s.{name}" for key, name in chosen.items())

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


def read_numerics(path: Path) -> Numerics:
    """`numerics` alone, which is needed before torch is; `portable` where the file is not in order."""
    from aebench.yaml import read as read_yaml

    try:
        params = read_yaml(path)
        return "native" if isinstance(params, dict) and params.get("numerics") == "native" else "portable"
    except ConfigError:
        return "portable"
