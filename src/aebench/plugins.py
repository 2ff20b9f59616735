"""Packages whose files are choices: a file that is added is one more, under its name."""

import pkgutil
import traceback
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import TypeVar

from aebench.errors import UserError, plain

C = TypeVar("C")


@cache
def modules(package: str) -> Mapping[str, ModuleType]:
    """The modules in a package, imported, by their own names in the alphabet's order.

    Names that begin with an underscore are those of helpers, and left out.

    Args:
        package: its full name, e.g. `aebench.variants`; it says `modules(__name__)` of itself.

    Raises:
        UserError: a file cannot be imported.
    """
    files = pkgutil.iter_modules(import_module(package).__path__)
    names = sorted(file.name for file in files if not file.name.startswith("_"))
    return {name: _imported(f"{package}.{name}") for name in names}


def _imported(name: str) -> ModuleType:
    try:
        return import_module(name)
    except Exception as error:  # whatever a file does that somebody else has written
        spec = find_spec(name)
        file = str(spec.origin if spec else name)
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
        where = f"{file}, line {lines[-1]}" if lines else file
        raise UserError(f"{where}: cannot be imported: {type(error).__name__}: {plain(error)}") from error


def configurations(package: str, base: type[C], *functions: str) -> dict[str, type[C]]:
    """For each module in a package the class named `Config` in it.

    Args:
        package: its full name.
        base: what each `Config` extends.
        functions: what else each module must have.

    Raises:
        UserError: a file cannot be imported, or lacks something.
    """
    configs: dict[str, type[C]] = {}
    for name, module in modules(package).items():
        config = getattr(module, "Config", None)
        if not (isinstance(config, type) and issubclass(config, base)):
            raise UserError(
                f"{module.__file__}: found no class Config that extends {base.__name__}, "
                "allowed: with one, or under a name with _ in front, as a helper's"
            )
        if missing := [function for function in functions if not callable(getattr(module, function, None))]:
            raise UserError(f"{module.__file__}: found no function {missing[0]}, allowed: with one")
        configs[name] = config
    return configs
