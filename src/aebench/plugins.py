"""Packages whose files are choices: a file that is added is one more, under its name."""

import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from types import ModuleType


@cache
def modules(package: str) -> Mapping[str, ModuleType]:
    """The modules in a package, imported, by their own names in the alphabet's order.

    Names that begin with an underscore are those of helpers, and left out.

    Args:
        package: its full name, e.g. `aebench.variants`; it says `modules(__name__)` of itself.
    """
    found = (module.name for module in pkgutil.iter_modules(import_module(package).__path__))
    names = sorted(name for name in found if not name.startswith("_"))
    return {name: import_module(f"{package}.{name}") for name in names}
