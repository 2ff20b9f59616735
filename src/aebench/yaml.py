"""YAML as DVC reads it, from a file that anybody may have written."""

import re
from pathlib import Path
from typing import Any

from aebench.errors import ConfigError, plain, show
from aebench.extras import require

require(__name__, "ruamel")

from ruamel.yaml import YAML  # noqa: E402
from ruamel.yaml.constructor import ConstructorError, SafeConstructor  # noqa: E402
from ruamel.yaml.error import MarkedYAMLError, YAMLError  # noqa: E402
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, Event, ScalarEvent  # noqa: E402

# Far beyond what the file needs; what stays below them is read in seconds, whatever is in it.
_BYTES, _DEPTH, _VALUES = 100_000, 20, 100_000


def read(path: Path) -> object:
    """What a YAML file holds.

    Raises:
        ConfigError: the file is missing, too large or not plain YAML; one line with the place and what is wrong.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_BYTES + 1)
        text = content.decode("utf-8")
    except FileNotFoundError:
        raise ConfigError(f"no such file; expected at {path}") from None
    except UnicodeDecodeError as error:
        number = content[: error.start].count(b"\n") + 1
        raise ConfigError(f"line {number}: found bytes that are not UTF-8, allowed: a file in UTF-8") from None
    except OSError as error:
        raise ConfigError(f"cannot be read: {error}") from None
    if len(content) > _BYTES:
        raise ConfigError(f"found more than {_BYTES} bytes, allowed: {_BYTES}")
    reader = YAML(typ="safe")  # as DVC's, so that both see the same values; it refuses a key or an anchor given twice
    reader.Constructor = _Placed
    try:
        _measure(text)
        return reader.load(text)
    except ConfigError:
        raise
    except MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        # Of a key that is given twice the reader shows two values, neither as it stands in the file.
        problem = re.sub('(?s)(found duplicate key ".*") with value .*', r"\1", str(error.problem))
        raise ConfigError(f"{line}not valid YAML: {plain(problem)}") from None
    except Exception as error:  # the reader lets through what Python says of an escape that is no character
        raise ConfigError(f"not valid YAML: {plain(error)}") from None


class _Placed(SafeConstructor):
    """Says where the value stands that Python cannot make: a day 40, or digits by the thousand."""

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        """The value of a node."""
        try:
            return super().construct_object(node, deep)
        except YAMLError:
            raise
        except Exception as error:
            raise ConstructorError(problem=plain(error), problem_mark=node.start_mark) from None


def _measure(text: str) -> None:
    """Refuse what would take long to read or grow in memory, deep nesting and aliases that multiply; and tags."""
    values, total = dict[str, int](), 0  # how many values each anchor stands for, and all of them with their aliases
    inside: list[tuple[str | None, int]] = []
    for event in YAML(typ="safe", pure=True).parse(text):
        if isinstance(event, AliasEvent):
            if any(event.anchor == anchor for anchor, _ in inside):
                raise ConfigError(f"{_at(event)}: found *{event.anchor} inside of itself, allowed: after its end")
            total += values.get(event.anchor, 1)
        elif isinstance(event, CollectionEndEvent):
            anchor, before = inside.pop()
            values |= {anchor: total - before} if anchor else {}
        elif isinstance(event, ScalarEvent | CollectionStartEvent):
            if event.tag is not None:
                tag = plain(str(event.tag).replace("tag:yaml.org,2002:", "!!"))
                raise ConfigError(f"{_at(event)}: found the tag {tag}, allowed: values without tags")
            if isinstance(event, ScalarEvent) and re.search("[\ud800-\udfff]", event.value):
                raise ConfigError(f"{_at(event)}: found half a character in {show(event.value)}, allowed: whole ones")
            values |= {event.anchor: 1} if event.anchor else {}
            total += 1
            if isinstance(event, CollectionStartEvent):
                inside.append((event.anchor, total))
        for what, count, allowed in (("values", total, _VALUES), ("levels", len(inside), _DEPTH)):
            if count > allowed:
                raise ConfigError(f"{_at(event)}: found more than {allowed} {what}, allowed: {allowed}")


def _at(event: Event) -> str:
    return f"line {event.start_mark.line + 1}"
