"""A mapping to a block of params.yaml; whatever is wrong with it ends in one line that names the key."""

import difflib
from collections.abc import Iterable, Mapping
from itertools import product
from typing import TypeVar

from pydantic import ValidationError

from aebench.config import EXPERIMENT, NAME, Block, LikelihoodConfig, Network, PixelLikelihood, VariantConfig
from aebench.errors import ConfigError, plain, show

B = TypeVar("B", bound=Block)

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
            text = f"unknown key, {allowed(str(location[-1]), known)}"
        elif error["type"] == "invalid_key":
            text = f"unknown key, allowed: {', '.join(_fields(block, location[:-1]))}"
        elif error["type"] in _TYPES:
            text = f"{found}, allowed: {_TYPES[error['type']]}"
        elif error["type"] == "missing":
            text = "missing, it has no default"
        elif error["type"] == "literal_error":
            text = f"{found}, {allowed(str(error['input']), error['ctx']['expected'].replace(' or ', ', '))}"
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


def allowed(found: str, names: Iterable[str] | str, unlisted: Iterable[str] = ()) -> str:
    """The allowed names, and the nearest to `found` of them and of those `unlisted` where one is near."""
    known = [name.strip().strip("'") for name in (names.split(",") if isinstance(names, str) else map(str, names))]
    near = difflib.get_close_matches(found, [*known, *unlisted], n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return f"allowed: {', '.join(known)}{hint}"


def parse_network(architectures: Mapping[str, type[Network]], value: object, where: str = "network") -> Network:
    """The configuration of a network, an MLP unless `value` says otherwise; `where` is the key under which it stands.

    Raises:
        ConfigError: one line about the first thing that is wrong.
    """
    return parse_named(architectures, "architecture", value, where, default="mlp")


def parse_variant(
    kinds: Mapping[str, type[VariantConfig]],
    likelihoods: Mapping[str, type[LikelihoodConfig]],
    value: object,
    where: str = "",
) -> VariantConfig:
    """The configuration of a variant; `where` is the key under which it stands.

    Raises:
        ConfigError: one line about the first thing that is wrong.
    """
    _refuse_shared_keys(kinds, likelihoods)
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: found {show(value)}, allowed: a mapping with a kind")
    kind = kinds[_name(kinds, "kind", value, where)]
    if not issubclass(kind, PixelLikelihood):
        return parse(kind, value, where)
    own = kind.model_fields.keys() - {"likelihood"}
    likelihood, rest = _likelihood(likelihoods, {key: of_key for key, of_key in value.items() if key not in own}, where)
    rest |= {key: of_key for key, of_key in value.items() if key in own}
    return parse(kind, {**rest, "likelihood": likelihood}, where, besides=type(likelihood).model_fields)


def _refuse_shared_keys(
    kinds: Mapping[str, type[VariantConfig]], likelihoods: Mapping[str, type[LikelihoodConfig]]
) -> None:
    """The settings of a variant and of any likelihood stand in one block, so none of them may have one name."""
    for (kind, of_kind), (likelihood, of_likelihood) in product(kinds.items(), likelihoods.items()):
        shared = of_kind.model_fields.keys() & of_likelihood.model_fields.keys() - {"likelihood"}
        if shared and issubclass(of_kind, PixelLikelihood):
            raise ConfigError(
                f"{min(shared)}: found as a setting of both the variant {kind} and the likelihood {likelihood}, "
                "allowed: of one of them, for both stand in one block"
            )


def _likelihood(
    likelihoods: Mapping[str, type[LikelihoodConfig]], block: Mapping[object, object], where: str
) -> tuple[LikelihoodConfig, dict[object, object]]:
    """The likelihood in a variant's block, with its settings, and what else stands there."""
    name = _name(likelihoods, "likelihood", block, where, default="bernoulli")
    owners = {key: [name for name, of_one in likelihoods.items() if key in of_one.model_fields] for key in block}
    for key, found in block.items():
        if owners[key] and name not in owners[key] and found is not None:
            with_others = f"allowed: with likelihood: {', '.join(owners[key])}"
            raise ConfigError(f"{_within(where)}{key}: found {show(found)} with {name}, {with_others}")
    own = {key: found for key, found in block.items() if name in owners[key]}
    return parse(likelihoods[name], own, where), {key: block[key] for key in block if not owners[key]}


def parse_named(blocks: Mapping[str, type[B]], key: str, value: object, where: str, *, default: str | None = None) -> B:
    """A block that is one of `blocks`, the one that stands under `key`; `where` is the key under which `value` stands.

    Raises:
        ConfigError: one line about the first thing that is wrong.
    """
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: found {show(value)}, allowed: a mapping")
    return parse(blocks[_name(blocks, key, value, where, default=default)], value, where)


def _name(
    blocks: Mapping[str, type[Block]],
    key: str,
    value: Mapping[object, object],
    where: str,
    *,
    default: str | None = None,
) -> str:
    """The name of one of `blocks` that stands under `key`."""
    if key not in value and default is None:
        raise ConfigError(f"{_within(where)}{key}: missing, allowed: {', '.join(blocks)}")
    name = value.get(key, default)
    if not isinstance(name, str) or name not in blocks:
        raise ConfigError(f"{_within(where)}{key}: found {show(name)}, {allowed(str(name), blocks)}")
    return name


def _within(where: str) -> str:
    """What stands before a key of the block under `where`."""
    return f"{where}." if where else ""
