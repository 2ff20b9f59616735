"""The hash of everything that determines a result."""

import ast
import hashlib
import json
import platform
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from importlib.util import resolve_name
from pathlib import Path

_SOURCE = Path(__file__).resolve().parents[1]
# What must agree for results to be the same.
LIBRARIES = ("torch", "numpy", "scipy", "scikit-learn", "arviz-stats", "safetensors")


def fingerprint(*modules: str, **facts: object) -> str:
    """A hash for what `modules` compute from `facts`: of both, of versions, and of the CPU's kind and instructions.

    Args:
        modules: dotted names, e.g. `aebench.training.run`; with what they import, as their source says, but without
            comments, docstrings and layout. What is imported by a computed name must be named too.
        facts: anything JSON can write.
    """
    from torch.backends.cpu import get_cpu_capability

    environment = {
        **{name: version(name) for name in LIBRARIES},
        "python": platform.python_version_tuple()[:2],
        "machine": platform.machine(),
        "instructions": get_cpu_capability(),
    }
    return digest(json.dumps([_code(modules), environment, facts], sort_keys=True).encode())


def digest(content: bytes) -> str:
    """The SHA-256 of `content`, in hex."""
    return hashlib.sha256(content).hexdigest()


@cache
def _code(modules: tuple[str, ...]) -> str:
    """The hash of the modules and of all that they import, but for comments, docstrings and layout."""
    found: dict[str, str] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        path = _file(name)
        if path is None or name in found:
            continue
        tree = ast.parse(path.read_bytes())
        waiting += _imported(tree, name if path.name == "__init__.py" else name.rpartition(".")[0])
        found[name] = digest(ast.dump(_WithoutWords().visit(tree)).encode())
    return digest(json.dumps(found, sort_keys=True).encode())


def _file(module: str) -> Path | None:
    """The source of one of this project's modules; the package itself only offers shortcuts to users."""
    if not module.startswith("aebench."):
        return None
    path = _SOURCE.joinpath(*module.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def _imported(tree: ast.AST, package: str) -> Iterator[str]:
    """The names that may be modules, with their packages; not what is imported for type checkers alone.

    `package` is the one that dots in front of a name stand for.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            origin = resolve_name("." * node.level + (node.module or ""), package)
            names = [f"{origin}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            yield from (".".join(parts[:length]) for length in range(1, len(parts) + 1))
        yield from _imported(node, package)


class _WithoutWords(ast.NodeTransformer):
    """Removes what does nothing: docstrings, of attributes too, and the `pass` that a docstring makes needless."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        """Remove a string that stands alone."""
        words = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if words else node

    def visit_Pass(self, node: ast.Pass) -> None:
        """Remove it."""
