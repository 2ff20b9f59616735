"""A mapping to a block of params.yaml; whatever is wrong with it ends in one line that names the key."""

import difflib
import re
from collections.abc import Iterable, Mapping
from itertools import product
from typing import TypeVar

from pydantic import ValidationError

from aebench.config import EXPERIMENT, NAME, Block, Part, part_types
from aebench.errors import ConfigError, plain, show

B = TypeVar("B", bound=Block)
Registries = Mapping[str, Mapping[str, type[Part]]]
"""Parts of a block by their key, such as `likelihood`, and their name."""

# What pydantic calls by Python's names, in those of YAML.
_TYPES = {
    "dict_type": "a mapping",
    "float_type": "a number",
    "int_type": "a whole number",
    "model_type": "a mapping",
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
            known = dict.fromkeys((*(besides if len(location) == 1 else ()), *_fields(block, location[:-1])))
            text = f"unknown key, {allowed(str(location[-1]), known)}"
        elif error["type"] == "invalid_key":
            text = f"unknown key, allowed: {', '.join(_fields(block, location[:-1]))}"
        elif error["type"] in _TYPES:
            text = f"{found}, allowed: {_TYPES[error['type']]}"
        elif error["type"] in ("too_short", "too_long"):
            end, length = ("least", "min_length") if error["type"] == "too_short" else ("most", "max_length")
            text = f"found {error['ctx']['actual_length']} entries, allowed: at {end} {error['ctx'][length]}"
        elif error["type"] == "missing":
            text = "missing, it has no default"
        elif error["type"] == "literal_error":
            names = re.findall("'(.*?)'", error["ctx"]["expected"])
            text = f"{found}, {allowed(str(error['input']), names)}"
        elif error["type"] == "value_error":
            text = f"{found}, {message}"
            if not message.startswith("allowed: "):  # a check across keys names its own
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


def allowed(name: str, names: Iterable[object], unlisted: Iterable[str] = ()) -> str:
    """The allowed names, and the nearest to `name` of them and of those `unlisted` where one is near."""
    known = list(map(str, names))
    near = difflib.get_close_matches(name, [*known, *unlisted], n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return f"allowed: {', '.join(known)}{hint}"


def parse_with_parts(
    blocks: Mapping[str, type[B]],
    named_by: str,
    parts: Registries,
    value: object,
    where: str,
    *,
    default: str | None = None,
) -> B:
    """A block whose parts have their names and settings in it: a variant, or the protocol of training.

    Args:
        blocks: the kinds of it.
        named_by: the key under which one of them is named.
        parts: by key, such as `likelihood`, what it can be made of.
        value: the block.
        where: the key under which it stands.
        default: which of `blocks` it is where it does not say; None: it must.

    Raises:
        ConfigError: one line about the first thing that is wrong.
    """
    _refuse_shared_keys(blocks, "variant" if named_by == "kind" else named_by, parts)
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: found {show(value)}, allowed: a mapping{f' with a {named_by}' * (not default)}")
    kind = blocks[_name(blocks, named_by, value, where, default=default)]
    part_of = part_types(kind)
    rest: dict[object, object] = dict(value)
    chosen: dict[object, object] = {}
    known = [key for key in kind.model_fields if key not in part_of]
    for key, of_key in part_of.items():
        of_parts = {setting for part in parts[key].values() for setting in part.model_fields}
        settings: dict[object, object] = {name: rest.pop(name) for name in list(rest) if name in of_parts}
        part = _part(parts[key], key, of_key.DEFAULT, settings, where)
        known += type(part).model_fields
        chosen[key] = part
    return parse(kind, {**rest, **chosen}, where, besides=known)


def _refuse_shared_keys(blocks: Mapping[str, type[Block]], what: str, parts: Registries) -> None:
    """The settings of a block and of its parts stand side by side, so no two of them may have one name."""
    for name_of_block, block in blocks.items():
        part_of = part_types(block)
        owners = [(what, name_of_block, set(block.model_fields))]
        for key in part_of:
            every = [(key, name, set(part.model_fields) - {key}) for name, part in parts[key].items()]
            for (one, name, settings), (other, its_name, its_settings) in product(owners, every):
                if shared := settings & its_settings:
                    raise ConfigError(
                        f"{min(shared)}: found as a setting of both the {one} {name} and the {other} {its_name}, "
                        "allowed: of one of them, for both stand in one block"
                    )
            owners += every


def _part(
    registry: Mapping[str, type[Part]], key: str, default: str, block: Mapping[object, object], where: str
) -> Part:
    """One of a variant's parts, from those keys of the variant's block that some such part has."""
    name = _name(registry, key, block, where, default=default)
    for setting, value in block.items():
        owners = [name for name, part in registry.items() if setting in part.model_fields]
        if name not in owners and value is not None:
            others = f"allowed: with {key}: {', '.join(owners)}"
            raise ConfigError(f"{where}.{setting}: found {show(value)} with {name}, {others}")
    return parse(registry[name], {key: block[key] for key in block if key in registry[name].model_fields}, where)


def parse_named(blocks: Mapping[str, type[B]], key: str, value: object, where: str, *, default: str) -> B:
    """A block that is one of `blocks`, the one that stands under `key`, or the `default`.

    `where` is the key under which `value` stands.

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
        raise ConfigError(f"{where}.{key}: missing, allowed: {', '.join(blocks)}")
    name = value.get(key, default)
    if not isinstance(name, str) or name not in blocks:
        raise ConfigError(f"{where}.{key}: found {show(name)}, {allowed(str(name), blocks)}")
    return name
