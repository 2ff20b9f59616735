"""The code that decides a result, defined once: what a stage imports, without comments, docstrings and layout.

DVC runs a stage again when the fingerprint of its code changes, and the store keeps a result under a key made from it.
"""

import ast
import hashlib
import json
import platform
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from importlib.util import resolve_name
from pathlib import Path

from aebench.errors import UserError
from aebench.paths import Layout

# What must agree for results to be the same.
LIBRARIES = ("torch", "numpy", "scipy", "scikit-learn", "arviz-stats", "safetensors")
# The stages that have results: those that know no variant, and those that run for each.
STAGES, STAGES_OF_A_VARIANT = ("fetch", "baseline", "report"), ("train", "evaluate")
# Packages that import all their files, by names that stand nowhere in the code.
WHOLE = ("evaluation/metrics",)


def fingerprints(layout: Layout, modules: Mapping[str, Sequence[str]]) -> dict[tuple[str, ...], str]:
    """The fingerprint of every stage that has results, by the stage's name and, where it knows one, the variant's.

    Args:
        layout: the checkout with the code.
        modules: for each variant those that are imported by names: of its kind, network, optimiser and likelihood.

    Raises:
        UserError: a file is not valid Python.
    """
    plain = {(stage,): fingerprint(layout, stage) for stage in STAGES}
    return plain | {
        (stage, variant): fingerprint(layout, stage, *named)
        for stage in STAGES_OF_A_VARIANT
        for variant, named in modules.items()
    }


def fingerprint(layout: Layout, stage: str, *named: str) -> str:
    """The SHA-256, in hex, of the code of a stage, and of the modules `named` where it runs for a variant.

    Raises:
        UserError: a file is not valid Python.
    """
    return code_hash(closure(layout, stage, *named), layout.root)


def key(code: str, **facts: object) -> str:
    """A hash for what code makes of facts: of both, of versions, and of the CPU's kind and instructions.

    Args:
        code: its fingerprint.
        facts: anything JSON can write.
    """
    from torch.backends.cpu import get_cpu_capability

    environment = {
        **{name: version(name) for name in LIBRARIES},
        "python": platform.python_version_tuple()[:2],
        "machine": platform.machine(),
        "instructions": get_cpu_capability(),
    }
    return digest(json.dumps([code, environment, facts], sort_keys=True).encode())


def digest(content: bytes) -> str:
    """The SHA-256 of `content`, in hex."""
    return hashlib.sha256(content).hexdigest()


def code_hash(files: Iterable[Path], folder: Path) -> str:
    """The hash of the code in `files`, which lie in `folder`; their places there count too.

    Raises:
        UserError: a file is not valid Python.
    """
    code = {path.relative_to(folder).as_posix(): _code(path)[0] for path in files}
    return digest(json.dumps(code, sort_keys=True).encode())


def source_files(folder: Path) -> list[Path]:
    """All modules and templates in `folder`, however deep; not what editors hide beside them."""
    sources = (path for suffix in ("py", "jinja") for path in folder.rglob(f"*.{suffix}"))
    return sorted(
        path
        for path in sources
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def closure(layout: Layout, stage: str, *named: str) -> set[Path]:
    """The files of the modules that a stage imports, wherever in their code, and of the templates beside them.

    Only names that stand in the code are followed. The files of variants, networks, optimisers and likelihoods are
    imported by names that params.yaml gives: of these, only the modules `named` are among them. Metrics are in no such
    list: with the package all its files count.

    Raises:
        UserError: a file is not valid Python, or imports relatively from beyond its package.
    """
    files: set[Path] = set()
    seen: set[str] = set()  # names, of which the most are imported again and again
    waiting = [stage, *named]
    whole = {layout.source / "aebench" / folder / "__init__.py" for folder in WHOLE}
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        path = _file(layout, name)
        if path is None or path in files:
            continue
        files.add(path)
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        if path in whole:
            inside = (file.relative_to(path.parent).with_suffix("") for file in source_files(path.parent))
            waiting += (".".join((name, *file.parts)) for file in inside)
        for imported in _code(path)[1]:
            try:
                waiting += _with_packages(resolve_name(imported, package))
            except ImportError:
                raise UserError(f"{path}: the import of {imported} leads beyond the package") from None
    folders = {path.parent for path in files}
    return files | {path for path in source_files(layout.source) if path.suffix == ".jinja" and path.parent in folders}


def _file(layout: Layout, module: str) -> Path | None:
    """The file of one of this project's modules, or, of a name that may be one, of the module that offers it."""
    path = (layout.source if f"{module}.".startswith("aebench.") else layout.stages).joinpath(*module.split("."))
    files = [path.with_suffix(".py"), path / "__init__.py"]
    if path.parent == layout.source / "aebench":
        files.append(path.parent / "__init__.py")  # whose shortcut it is
    return next((file for file in files if file.is_file()), None)


def _with_packages(name: str) -> Iterator[str]:
    """The modules that an import of `name` executes; the package itself, which only has shortcuts, if it is all."""
    parts = name.split(".")
    first = 2 if len(parts) > 1 and parts[0] == "aebench" else 1
    return (".".join(parts[:length]) for length in range(first, len(parts) + 1))


def _code(path: Path) -> tuple[str, tuple[str, ...]]:
    """The hash of a file's code, and the names that it imports; of a template, the hash of its bytes."""
    content = path.read_bytes()
    try:
        return _parsed(content) if path.suffix == ".py" else (digest(content), ())
    except (SyntaxError, ValueError) as error:  # the latter for null bytes, in some versions of Python
        line = error.lineno if isinstance(error, SyntaxError) else None
        raise UserError(f"{path}, line {line or 1}: not valid Python: {error.args[0]}") from None


@cache
def _parsed(content: bytes) -> tuple[str, tuple[str, ...]]:
    tree = _WithoutWords().visit(ast.parse(content))
    return digest(json.dumps(_as_json(tree)).encode()), tuple(_imported(tree))


class _WithoutWords(ast.NodeTransformer):
    """Removes what does nothing at run time.

    That is docstrings, of attributes too, the `pass` that a docstring makes needless, and what is for type checkers.
    """

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        """Remove a string that stands alone."""
        words = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if words else node

    def visit_Pass(self, node: ast.Pass) -> None:
        """Remove it."""

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        """Leave of `if TYPE_CHECKING` what stands under `else`."""
        self.generic_visit(node)
        return node.orelse if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING" else node


def _imported(tree: ast.AST) -> Iterator[str]:
    """The names that may be modules, with their dots in front; also text that is one's full name, to be run by it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = "." * node.level + (node.module or "")
            yield from (f"{origin}{'.' if node.module else ''}{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and re.fullmatch(r"aebench(\.\w+)+", text := str(node.value)):
            yield text


def _as_json(node: object) -> object:
    """A syntax tree as JSON, without empty fields: which of these there are differs between versions of Python."""
    if isinstance(node, list):
        return [_as_json(item) for item in node]
    if isinstance(node, ast.AST):
        fields = {name: _as_json(value) for name, value in ast.iter_fields(node) if value is not None and value != []}
        return [type(node).__name__, fields]
    return ascii(node)
