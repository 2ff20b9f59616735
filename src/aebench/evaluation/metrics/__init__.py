"""The metrics: every file here is a family of them, which are measured together.

A file holds `METRICS`, an entry for each, and two functions of a run (`aebench.evaluation.context.Context`):

- `not_defined(context)` gives the reason for each of them that this run cannot have, by name;
- `measure(context)` gives all the others, as `Measured`. It is not called where there are none.

Where it holds `OPTIONAL = True`, it is measured only where `evaluation.extra` of params.yaml names the file.

Whoever shows metrics reads the entries alone, and should not wait for torch: the functions import what they need.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aebench.errors import ConfigError, UserError, show
from aebench.parsing import allowed
from aebench.plugins import modules

if TYPE_CHECKING:
    from aebench.evaluation.context import Context

Protocol = Mapping[str, Any]
"""What a variant's numbers were measured on, and how, as its metric file says it."""
Comparability = Callable[[Protocol], Hashable]
"""Two variants are compared in a metric where this is equal for their protocols."""


def everything(protocol: Protocol) -> Hashable:
    """Comparability of what means the same for every variant of a data set."""
    return None


def nothing(protocol: Protocol) -> Hashable:
    """Comparability of what compares with nothing."""
    return object()  # which is equal to itself alone


class Nats(NamedTuple):
    """What must agree for two figures in nats, or bits, to mean the same.

    `likelihood`: p(x|z). `binarization`: of the pixels. `estimator`: how the figure is found. `samples`: K, or None
    where nothing is sampled.
    """

    likelihood: str
    binarization: str
    estimator: str
    samples: int | None


def own_likelihood(protocol: Protocol) -> Nats:
    """Comparability of what is in nats under the variant's own p(x|z)."""
    keys = ("likelihood", "binarization", "proposal", "importance_samples")
    return Nats(*(protocol[key] for key in keys))


def same_supervision(protocol: Protocol) -> Hashable:
    """Comparability of what labels may help: variants that all have, or all have not, learned from them."""
    return bool(protocol["trained_with_labels"])


def all_images(protocol: Protocol) -> int:
    """Every test image."""
    return int(protocol["images"])


def as_it_is(shape: Sequence[int]) -> float:
    """Scale of a gap in the bound's own unit."""
    return 1.0


class Looseness(NamedTuple):
    """How far a bound can lie from the truth, as another metric says it.

    `metric`: the name of a figure of the run. `scale`: what that is multiplied by to be in the bound's unit, from an
    image's shape (C, H, W).
    """

    metric: str
    scale: Callable[[Sequence[int]], float] = as_it_is


# Of a number in one of these, by its unit or its name, the number alone says nothing of what was measured.
_OF_A_LIKELIHOOD = ("nats", "bits")
# The place of a metric that asks for none.
LAST = 1_000_000


@dataclass(frozen=True)
class Metric:
    """One metric: what it is called, how it is shown, and with what it is compared.

    Args:
        name: its key in files; it ends in `_nats` where the unit is nats.
        title: its name in tables.
        unit: of the number shown, `scale` times the value; empty where there is none.
        better: ↑ or ↓, or empty where neither more nor less is.
        comparable: what must agree for two variants' values to be compared. A figure in nats or bits whose
            comparability is not a `Nats` compares with nothing.
        average: the metric is the mean or the median of the images' values; None: a figure of the whole run.
        scale: what the value is multiplied by where it is shown.
        digits: after the point.
        main: whether it stands in the main table.
        place: the columns of a table stand in the order of their places.
        images: how many images have a value.
        looseness: what says how far the metric, a bound, can lie from the truth. A difference of two variants that is
            no larger than that of both shows nothing.
    """

    name: str
    title: str
    unit: str
    better: Literal["↑", "↓", ""]
    comparable: Comparability
    _: KW_ONLY
    average: Literal["mean", "median"] | None = "mean"
    scale: float = 1.0
    digits: int = 2
    main: bool = False
    place: int = LAST
    images: Callable[[Protocol], int] = all_images
    looseness: Looseness | None = None

    @property
    def heading(self) -> str:
        """Title, unit and the direction in which the metric is better, in one line."""
        return " ".join(filter(None, (self.title, f"[{self.unit}]" if self.unit else "", self.better)))

    @property
    def compared(self) -> bool:
        """Whether variants can be compared in it: a mean over images of which more, or less, is better."""
        return bool(self.better) and self.average == "mean"

    def group(self, protocol: Protocol) -> Hashable:
        """Variants are compared where this is equal.

        Raises:
            KeyError: the protocol does not say what must agree.
        """
        key = self.comparable(protocol)
        of_a_likelihood = any(unit in f"{self.name} {self.unit}" for unit in _OF_A_LIKELIHOOD)
        return nothing(protocol) if of_a_likelihood and not isinstance(key, Nats) else key


@dataclass
class Measured:
    """What a family finds of a run on N test images.

    `per_image`: by metric the values `[N]` of which it is the mean or the median. `of_run`: the metrics that are
    figures of the whole run. `vectors`: figures that are no single number. `behind`: values of images behind a
    metric, which are kept with the others. `arrays`: what the report's pictures need besides.
    """

    per_image: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    of_run: dict[str, float] = field(default_factory=dict)
    vectors: dict[str, list[float]] = field(default_factory=dict)
    behind: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    arrays: dict[str, NDArray[np.generic]] = field(default_factory=dict)

    def add(self, other: "Measured") -> None:
        """Take what another family has found."""
        for name, values in vars(other).items():
            getattr(self, name).update(values)


class Family(NamedTuple):
    """One of the files here; its module says what the parts are."""

    name: str
    metrics: tuple[Metric, ...]
    not_defined: Callable[["Context"], dict[str, str]]
    measure: Callable[["Context"], Measured]
    optional: bool = False


# These are measured first and stand first in the archives, then all others by name.
_FIRST = ("reconstruction", "codes", "likelihood", "expost")


@cache
def families() -> tuple[Family, ...]:
    """All families, in the order in which they are measured.

    Raises:
        UserError: a file cannot be imported, or lacks something.
    """
    by_name = modules(__name__)
    for module in by_name.values():
        if missing := [name for name in ("METRICS", "not_defined", "measure") if not hasattr(module, name)]:
            raise UserError(f"{module.__file__}: found no {missing[0]}, allowed: with one")
    ordered = [*(name for name in _FIRST if name in by_name), *(name for name in by_name if name not in _FIRST)]
    return tuple(
        Family(name, module.METRICS, module.not_defined, module.measure, getattr(module, "OPTIONAL", False))
        for name, module in ((name, by_name[name]) for name in ordered)
    )


def chosen(extra: Iterable[str]) -> tuple[Family, ...]:
    """The families that are measured: all but the optional ones that `extra`, `evaluation.extra`, does not name.

    Raises:
        ConfigError: it names what is no optional family, or one twice.
    """
    optional, named = [family.name for family in families() if family.optional], list(extra)
    for position, name in enumerate(named):
        where = f"evaluation.extra[{position}]: found {show(name)}"
        if name not in optional:
            raise ConfigError(f"{where}, {allowed(name, optional)}")
        if name in named[:position]:
            raise ConfigError(f"{where} twice, allowed: each once")
    return tuple(family for family in families() if not family.optional or family.name in named)


def chosen_metrics(extra: Iterable[str]) -> Mapping[str, Metric]:
    """The metrics of the families that are `chosen`, by name, in the order in which they are shown.

    Raises:
        ConfigError: `extra` names what is no optional family, or one twice.
    """
    names = {metric.name for family in chosen(extra) for metric in family.metrics}
    return {name: metric for name, metric in metrics().items() if name in names}


@cache
def metrics() -> Mapping[str, Metric]:
    """Every metric by name, in the order in which they are shown.

    Raises:
        UserError: two have one name, or an optional one is to stand in the main table, which is the same whatever is
            measured besides.
    """
    files: dict[str, str] = {}
    for family in families():
        for metric in family.metrics:
            where = f"evaluation/metrics/{family.name}.py: found {metric.name}"
            if metric.name in files:
                raise UserError(f"{where}, which {files[metric.name]}.py has too, allowed: a name of its own")
            if family.optional and metric.main:
                raise UserError(f"{where} with main=True in an optional file, allowed: main=False")
            files[metric.name] = family.name
    entries = (metric for family in families() for metric in family.metrics)
    return {metric.name: metric for metric in sorted(entries, key=lambda metric: metric.place)}


def main_metrics() -> Mapping[str, Metric]:
    """Those of the main table."""
    return {name: metric for name, metric in metrics().items() if metric.main}
