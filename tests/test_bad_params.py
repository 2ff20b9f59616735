"""Whatever is in params.yaml, it is in order or it ends in one line; nothing takes long, grows, or is touched."""

import json
import re
import tracemalloc
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from checkout import Checkout, checkout
from conftest import RESULTS
from hypothesis import HealthCheck, given, settings
from mutations import TEXT, as_yaml, contents, trees

from aebench.config import Params
from aebench.errors import ConfigError, plain
from aebench.training.settings import read_params

# So long a case hangs; the longest take a second.
FUZZING = {
    "derandomize": True,
    "database": None,
    "deadline": timedelta(seconds=30),
    "suppress_health_check": list(HealthCheck),
}


def outcome(path: Path, content: bytes) -> str | None:
    """What the check says of this file; none where it is in order, and then it can be used."""
    path.write_bytes(content)
    try:
        params = read_params(path)
    except ConfigError as error:
        return str(error)
    assert all(params.run(variant) for variant in params.variants)
    assert json.dumps(params.model_dump(mode="json", exclude={"execution"}), allow_nan=False)
    return None


def check(cases: int, folder: Path) -> Counter[str]:
    """So many spoilt files; how many are in order and how many are refused."""
    found: Counter[str] = Counter()

    @settings(max_examples=cases, **FUZZING)  # type: ignore[arg-type]
    @given(contents())
    def whatever_it_is(content: bytes) -> None:
        said = outcome(folder / "params.yaml", content)
        found["refused" if said else "in order"] += 1
        if said:
            assert said.isprintable(), said
            assert said.startswith("params.yaml: "), said
            assert len(said) < 2000, said
            assert re.match(r"params.yaml: (line \d+: |not valid YAML|cannot be read|found |\S+.*?: \S)", said), said

    whatever_it_is()
    return found


def check_keys(cases: int, folder: Path) -> None:
    """What is valid YAML but not in order: the line begins with a key of the file, or of the file as it should be."""

    @settings(max_examples=cases, **FUZZING)  # type: ignore[arg-type]
    @given(trees())
    def the_key_is_named(tree: dict[str, object]) -> None:
        said = outcome(folder / "params.yaml", as_yaml(tree).encode())
        if said and not re.match(r"params.yaml: (line \d+|not valid YAML): ", said):
            keys = {*Params.model_fields, *map(plain, tree)}
            assert said.startswith(tuple(f"params.yaml: {key}{end}" for key in keys for end in ":.[")), said

    the_key_is_named()


def test_whatever_is_in_the_file_it_is_in_order_or_one_line(tmp_path: Path) -> None:
    found = check(150, tmp_path)
    assert found["in order"]
    assert found["refused"] > found["in order"]
    check_keys(50, tmp_path)


@pytest.mark.slow
def test_thousands_of_files_are_in_order_or_one_line(tmp_path: Path) -> None:
    assert check(2500, tmp_path).total() >= 2500
    check_keys(1000, tmp_path)


def doubled(times: int, merged: bool = False) -> str:
    """Anchors, each of which stands for the one before twice."""
    first, again = ("{x: 0}", "{{<<: [*b{0}, *b{0}]}}") if merged else ("[0, 0]", "[*b{0}, *b{0}]")
    return f"b0: &b0 {first}\n" + "".join(f"b{n}: &b{n} {again.format(n - 1)}\n" for n in range(1, times))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (doubled(60), "line 16: found more than 100000 values"),
        (doubled(60, merged=True), "line .*: found more than 100000 values"),
        (f"seeds: {'[' * 40_000}", "line 1: found more than 20 levels"),
        (f"seeds: {'{a: ' * 20_000}", "line 1: found more than 20 levels"),
        ("seeds: &a [*a]\n", r"line 1: found \*a inside of itself"),
        ("x: &a {<<: *a}\n", r"line 1: found \*a inside of itself"),
        ("x" * 30_000_000, "found more than 100000 bytes, allowed: 100000"),
        (TEXT.replace("epochs: 10", f"epochs: 0x{'f' * 80_000}"), "training.epochs: found a number of more than"),
        (TEXT.replace("epochs: 10", "epochs: 2001-13-41"), "line \\d+: not valid YAML: month must be in"),
        (TEXT.replace("epochs: 10", "epochs: !!bool ja"), "line \\d+: found the tag !!bool"),
        (TEXT + "z: &a 1\ny: &a 2\n", "line \\d+: not valid YAML: second occurrence"),
        (TEXT.replace("  vae:", '  "v\\nae":'), "models.v ae: found 'v\\\\nae'"),
        (TEXT.replace("  vae:", '  "\\ud800":'), "line .*: found half a character in '.ud800'"),
        (TEXT.replace("source_dir: null", "source_dir: ~no-such-user/x"), "execution.source_dir: found '~no-such-user"),
        (TEXT + "  x: 1\n", "tracking.x: unknown key"),
    ],
    ids=range(15),
)  # fmt: skip
def test_no_file_takes_more_memory_than_it_justifies(
    tmp_path: Path, text: str, said: str, recwarn: pytest.WarningsRecorder
) -> None:
    tracemalloc.start()
    try:
        found = outcome(tmp_path / "params.yaml", text.encode())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found
    assert re.match(f"params.yaml: {said}", found), found
    assert "\n" not in found
    assert peak < 10_000_000 + len(text)  # which the test itself encodes
    assert not recwarn.list


# Mistakes as people make them, and as one makes them who means no good.
MISTAKES = {
    "a typo in a key": ("epochs: 10", "epoch: 10"),
    "no value": ("epochs: 10", "epochs:"),
    "text for a number": ("epochs: 10", "epochs: ten"),
    "a number out of range": ("validation_fraction: 0.1", "validation_fraction: 1.5"),
    "a number beyond all ranges": ("epochs: 10", f"epochs: 0x{'f' * 9000}"),
    "not a number": ("learning_rate: 1.0e-2", "learning_rate: .nan"),
    "text for a list": ("seeds: [0, 1, 2, 3]", "seeds: four"),
    "a mapping for a list": ("  - fashion_mnist\n", "  fashion_mnist: yes\n"),
    "an unknown data set": ("  - fashion_mnist\n", "  - fashion_minst\n"),
    "a path for a name": ("  - ae\n", "  - ../../ae\n"),
    "a command for a name": ("  - ae\n", "  - $(touch here)\n"),
    "markup for a name": ("  ae:\n", "  <script>:\n"),
    "a template for a name": ("  - ae\n", "  - ${seeds}\n"),
    "a path for an experiment": ("experiment: aebench", "experiment: ../x"),
    "a tag": ("epochs: 10", "epochs: !!python/object/apply:os.system [ls]"),
    "an alias without an anchor": ("epochs: 10", "epochs: *ten"),
    "an anchor inside of itself": ("seeds: [0, 1, 2, 3]", "seeds: &a [*a]"),
    "aliases that multiply": ("datasets:", f"{doubled(60)}datasets:"),
    "a list that does not end": ("seeds: [0, 1, 2, 3]", "seeds: [0, 1"),
    "half a file": (TEXT[len(TEXT) // 2 :], ""),
    "nothing": (TEXT, ""),
}


# How such a line begins, and that it says what is allowed.
LINE = r"params.yaml: ((line \d+|[a-z_.]+.*?): )?(\S.*allowed: |not valid YAML|missing)"


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line(tmp_path: Path, mistake: str) -> None:
    old, new = MISTAKES[mistake]
    assert old in TEXT
    said = outcome(tmp_path / "params.yaml", TEXT.replace(old, new, 1).encode())
    assert said
    assert re.match(LINE, said), said
    assert said.isprintable()


SPELLINGS: dict[str, Callable[[str], str]] = {
    "line ends of Windows": lambda text: text.replace("\n", "\r\n"),
    "a mark of Windows's editors": lambda text: f"\ufeff{text}",
    "a number without a point": lambda text: text.replace("1.0e-3", "1e-3"),
    "lists with dashes": lambda text: text.replace("seeds: [0, 1]", "seeds:\n- 0\n- 1"),
    "a document's ends": lambda text: f"---\n{text}...\n",
    "merge keys": lambda text: text.replace("cvae: {kind: cvae}", "cvae: {<<: {kind: cvae}}"),
    "an anchor": lambda text: text.replace("kind: ae", "kind: &a ae"),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_same_settings_may_be_spelt_in_other_ways(tmp_path: Path, spelling: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(RESULTS.encode())
    expected = read_params(path)
    assert SPELLINGS[spelling](RESULTS) != RESULTS
    path.write_bytes(SPELLINGS[spelling](RESULTS).encode())
    assert read_params(path) == expected


def test_a_seed_is_any_number_of_63_bits(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(RESULTS.replace("seeds: [0, 1]", f"seeds: [0, {2**63 - 1}]"))
    assert read_params(path).seeds == (0, 2**63 - 1)
    path.write_text(RESULTS.replace("seeds: [0, 1]", f"seeds: [0, {2**63}]"))
    with pytest.raises(ConfigError, match=rf"seeds\[1\]: found {2**63}, allowed: less than {2**63}"):
        read_params(path)


@pytest.fixture(scope="module")
def with_results(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout with files where results lie, of cells that params.yaml names and of one that it does not."""
    made = checkout(tmp_path_factory.mktemp("checkout") / "a path")
    for variant in ("ae", "another"):
        for name in (f"runs/fashion_mnist/{variant}/seed-0/x", f"reports/metrics/fashion_mnist/{variant}.json"):
            (made.root / name).parent.mkdir(parents=True, exist_ok=True)
            (made.root / name).write_text("a result")
    return made


# A sample for the real thing: a key, a value, what DVC cannot expand, what would run, what is no YAML.
@pytest.mark.slow
@pytest.mark.parametrize(
    "mistake",
    [
        *("a typo in a key", "a number out of range", "text for a list", "a template for a name"),
        *("a command for a name", "a tag", "a list that does not end", "nothing"),
    ],
)
def test_make_repro_ends_in_one_line_and_touches_nothing(with_results: Checkout, mistake: str) -> None:
    old, new = MISTAKES[mistake]
    (with_results.root / "params.yaml").write_text(TEXT.replace(old, new, 1))
    before = with_results.files()
    done = with_results.make("repro")
    assert done.returncode != 0
    assert done.stdout == ""
    line, *rest = done.stderr.splitlines()
    assert re.match(f"error: {LINE}", line), line
    assert [text.split(":")[0] for text in rest] == ["make"]  # make's own line
    assert with_results.files() == before
