"""params.yaml, spoilt at random: as values, as text, as bytes."""

import copy
import json
import re
from typing import Any

from conftest import ROOT
from hypothesis import strategies as st
from ruamel.yaml import YAML

TEXT = (ROOT / "params.yaml").read_text(encoding="utf-8")
TREE: dict[str, Any] = YAML(typ="safe").load(TEXT)

# Keys and values that mean something somewhere, so that they land where they do not belong.
WORDS = [
    *("datasets", "models", "kind", "seeds", "epochs", "expost", "sigma", "samples", "network", "training", "hidden"),
    *("ae", "vae", "cvae", "iwae", "gaussian", "learned", "dask", "last", "auto", "digits", "fashion_mnist_binary"),
    *(
        "",
        " ",
        "null",
        "~",
        "../../etc",
        "/etc",
        "~nobody/x",
        "a/b",
        "a\nb",
        "\x1b[31m",
        "\ud800",
        "\u202e",
        "<script>",
    ),
    *("\\input{x}", "${variants}", "$(id)", "'; drop", "%s", "é", "𝕏", "__class__", "-", "9" * 70, "x" * 5000),
]
NUMBERS = st.one_of(
    st.integers(-3, 70_000),
    st.sampled_from([2**31, 2**63 - 1, 2**63, 2**64, 10**30, 10**400, -(10**400)]),
    st.floats(),
)
LEAVES = st.one_of(st.none(), st.booleans(), NUMBERS, st.sampled_from(WORDS), st.text(max_size=20))
KEYS = st.one_of(st.sampled_from(WORDS), st.text(max_size=8))
JUNK = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)
SNIPPETS = [
    *(
        "&a ",
        "*a",
        "<<: *a",
        "!!int ",
        "!!python/object:os.system ",
        "!x ",
        "? ",
        "- ",
        ": ",
        "# ",
        "\t",
        "'",
        '"',
        "|",
    ),
    *(">", "{", "}", "[", "]", ",", "---\n", "...\n", "%YAML 1.1\n---\n", "%TAG ! x\n", "\0", "\ufeff", "\u2028", "\r"),
    *("2001-13-41", "0x" + "f" * 4000, "9" * 4400, "1_0", "0o7", ".nan", "-.inf", "1e999", "[" * 60, "{a: " * 30),
    *("seeds: [0]\n", "x: &a [*a]\n", "\n  ae: {kind: ae}\n", "b: &b [0, 0]\nc: [*b, *b]\n", "\\ud800", '"\\ud800"'),
]


def places(tree: Any) -> list[tuple[Any, Any]]:
    """Every value in the tree as (what holds it, its key)."""
    entries = list(tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ())
    return [(tree, key) for key, _ in entries] + [place for _, value in entries for place in places(value)]


@st.composite
def trees(draw: st.DrawFn) -> dict[str, Any]:
    """The repository's params.yaml with a few values replaced, removed, renamed, moved or added."""
    tree = copy.deepcopy(TREE)
    for _ in range(draw(st.integers(1, 3))):
        if not (found := places(tree)):
            break
        holder, key = draw(st.sampled_from(found))
        change = draw(st.sampled_from(["replace", "replace", "vary", "remove", "rename", "add", "wrap", "copy"]))
        if change == "replace":
            holder[key] = draw(JUNK)
        elif change == "vary":  # what stands there, a little different
            other_holder, other_key = draw(st.sampled_from(found))
            other = copy.deepcopy(other_holder[other_key])
            holder[key] = draw(NUMBERS) if isinstance(holder[key], int | float) else other
        elif change == "remove":
            del holder[key]
        elif change == "wrap":
            holder[key] = draw(st.sampled_from([[holder[key]], {"kind": holder[key]}, str(holder[key])]))
        elif isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key]) if change == "copy" else draw(JUNK))
        elif change == "add":
            holder[draw(KEYS)] = draw(JUNK)
        else:
            holder[draw(KEYS)] = copy.deepcopy(holder[key]) if change == "copy" else holder.pop(key)
    return tree


def as_yaml(tree: Any) -> str:
    """JSON is YAML but for the names of three numbers, and for pairs of halves that make a character."""
    text = re.sub("[\ud800-\udfff]", lambda half: f"\\u{ord(half[0]):x}", json.dumps(tree, ensure_ascii=False))
    for ours, yamls in (("-Infinity", "-.inf"), ("Infinity", ".inf"), ("NaN", ".nan")):
        text = text.replace(ours, yamls)
    return text


@st.composite
def texts(draw: st.DrawFn) -> str:
    """The repository's params.yaml as text in which lines are moved and pieces are cut, doubled and put in."""
    text = TEXT
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 40)))
        change = draw(st.sampled_from(["snippet", "snippet", "cut", "double", "line", "indent", "junk"]))
        lines = text.splitlines(keepends=True) or [""]
        row = draw(st.integers(0, len(lines) - 1))
        if change == "snippet":
            text = text[:start] + draw(st.sampled_from(SNIPPETS)) + text[start:]
        elif change == "cut":
            text = text[:start] + text[end:]
        elif change == "double":
            text = text[:end] + text[start:]
        elif change == "junk":
            text = text[:start] + draw(st.text(max_size=12)) + text[end:]
        else:
            here = {
                "line": draw(st.sampled_from(lines)) + lines[row],
                "indent": draw(st.sampled_from(" \t")) + lines[row],
            }
            text = "".join([*lines[:row], here[change], *lines[row + 1 :]])
    return text


@st.composite
def contents(draw: st.DrawFn) -> bytes:
    """A file's bytes: values or text as above, or text with bytes in it that are none."""
    kind = draw(st.sampled_from(["tree", "tree", "text", "text", "bytes"]))
    if kind == "tree":
        return as_yaml(draw(trees())).encode()
    if kind == "text":
        return draw(texts()).encode("utf-8", "surrogatepass")
    place = draw(st.integers(0, len(TEXT)))
    return TEXT.encode()[:place] + draw(st.binary(max_size=8)) + TEXT.encode()[place + draw(st.integers(0, 9)) :]
