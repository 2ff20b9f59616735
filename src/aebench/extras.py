"""What the package needs beyond a trained model, and how to get it."""

from importlib.util import find_spec

from aebench.errors import UserError


class MissingPackage(UserError, ModuleNotFoundError):
    """A part of aebench was imported whose packages an installation for trained models alone does not have."""


def require(part: str, *packages: str) -> None:
    """Look whether the packages are there that a part of the pipeline imports.

    Args:
        part: the module that needs them.
        packages: as they are imported, by the names of their topmost modules.

    Raises:
        MissingPackage: one is not installed; the line says what to install.
    """
    if missing := [package for package in packages if find_spec(package) is None]:
        raise MissingPackage(f'{part} needs {", ".join(missing)}: pip install "aebench[pipeline]"')
