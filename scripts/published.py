"""Tables of the literature, reproduced: `make published`, or `make published ONLY=TABLE/VARIANT/SEED` for a part of it.

A folder of published/ with a literature.yaml is a table: its params.yaml has the protocol, and literature.yaml what the
paper found. The runs are made in published/TABLE/work/, and what came out stands in published/TABLE/VARIANT.json, a
seed's beside those that were there before. It may be stopped at any time: the next call goes on from checkpoints. From
these files comes published/README.md, ours beside theirs.
"""

import csv
import io
import json
import math
import shutil
import statistics
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import copies

sys.path.insert(0, str(copies.ROOT / "src"))

from aebench import numerics, yaml
from aebench.config import Block, Line, Name
from aebench.errors import ConfigError, UserError
from aebench.parsing import allowed, parse
from aebench.paths import Layout, write

ROOT = Layout(copies.ROOT)
PUBLISHED = copies.ROOT / "published"
# What takes the place of a table's own evaluation to find how much of a figure is the estimator's looseness.
TIGHT = {"proposal": "laplace", "importance_samples": 300}


class Literature(Block):
    """What a paper found: `log_px` is −log p(x) in nats for each variant, and its standard deviation over seeds."""

    title: Line
    source: Line
    spread: Line
    log_px: dict[Name, list[float | None]]
    missing: dict[Name, Line]


@dataclass(frozen=True)
class Table:
    """A folder of published/."""

    name: str

    @property
    def folder(self) -> Path:
        """Where its settings and results are."""
        return PUBLISHED / self.name

    @property
    def work(self) -> Layout:
        """The copy of the project where its runs are made."""
        return Layout(self.folder / "work")

    def literature(self) -> Literature:
        """What the paper found.

        Raises:
            ConfigError: the file is not in order.
        """
        return parse(Literature, yaml.read(self.folder / "literature.yaml"), f"published/{self.name}/literature.yaml")

    def found(self) -> dict[str, dict[str, Any]]:
        """What was found here, by variant and seed."""
        files = {variant: self.folder / f"{variant}.json" for variant in self.literature().log_px}
        return {variant: json.loads(file.read_text()) for variant, file in files.items() if file.is_file()}


def tables() -> dict[str, Table]:
    """All there are."""
    return {path.parent.name: Table(path.parent.name) for path in sorted(PUBLISHED.glob("*/literature.yaml"))}


def main() -> None:
    """Make what is asked for, then the page.

    Raises:
        UserError: there is no such table, variant or seed, or a file is not in order.
    """
    known, asked = tables(), [part for argument in sys.argv[1:] for part in argument.split("/") if part]
    if asked and asked[0] not in known:
        raise UserError(f"ONLY: found {asked[0]}, {allowed(asked[0], known)}")
    numerics.limit("portable")
    failed = (
        [table.name for table in (known[asked[0]],) if not made(table, *asked[1:])]
        if asked
        else [table.name for table in known.values() if not made(table)]
    )
    write(PUBLISHED / "README.md", page(known))
    print(f"\nSee {PUBLISHED / 'README.md'}")
    if failed:
        raise UserError(f"not finished: {', '.join(failed)}; the lines above say why, and the next call goes on")


def made(table: Table, variant: str | None = None, seed: str | None = None) -> bool:
    """Run a table, or a part of it, by its own estimator and by the tight one; whether all of it succeeded.

    Raises:
        UserError: there is no such variant or seed, or a file is not in order.
    """
    settings = read(table)
    for asked, key in ((variant, "variants"), (seed, "seeds")):
        if asked is not None:
            names = [str(name) for name in settings[key]]
            if asked not in names:
                raise UserError(f"ONLY: found {asked}, {allowed(asked, names)}")
            settings[key] = [name for name in settings[key] if str(name) == asked]
    results = []
    for changes in ({}, TIGHT):
        evaluation = settings["evaluation"] | changes
        copies.make(table.work.root, dumped(settings | {"evaluation": evaluation}))
        share_sources(table)
        if not copies.repro(table.work.root):
            return False
        results.append({name: metrics(table, settings["datasets"][0], name) for name in settings["variants"]})
    theirs, tight = results
    for name in settings["variants"]:
        keep(table, name, theirs[name], tight[name])
    return True


def read(table: Table) -> dict[str, Any]:
    """A table's params.yaml, in order.

    Raises:
        ConfigError: it is not, or the paper's variants are others.
    """
    from aebench.training.settings import read_params

    file = table.folder / "params.yaml"
    params = read_params(file, ROOT.datasets)
    if set(params.variants) != set(table.literature().log_px):
        raise ConfigError(f"{file}: variants: found {', '.join(params.variants)}, allowed: those of literature.yaml")
    settings = yaml.read(file)
    assert isinstance(settings, dict)
    return settings


def dumped(settings: Mapping[str, Any]) -> str:
    """As the text of a params.yaml."""
    from ruamel.yaml import YAML

    text = io.StringIO()
    YAML(typ="safe").dump(dict(settings), text)
    return f"# Made by `make published`.\n{text.getvalue()}"


def share_sources(table: Table) -> None:
    """What was fetched for the default benchmark need not be fetched again."""
    for name in ("datasets", ".aebench/raw"):
        if (ROOT.root / name).is_dir():
            shutil.copytree(ROOT.root / name, table.work.root / name, dirs_exist_ok=True)


def metrics(table: Table, dataset: str, variant: str) -> dict[str, Any]:
    """A variant's metric file in the copy."""
    found: dict[str, Any] = json.loads(table.work.metrics(dataset, variant).read_text())
    return found


def keep(table: Table, variant: str, theirs: Mapping[str, Any], tight: Mapping[str, Any]) -> None:
    """Put what was found for a variant's seeds beside those that stand in its file already."""
    from aebench.tracking.facts import of_system

    file, system = table.folder / f"{variant}.json", of_system()
    kept = json.loads(file.read_text()) if file.is_file() else {}
    for seed, values in theirs["seeds"].items():
        folder = table.work.run(theirs["dataset"], variant, int(seed))
        history = list(csv.DictReader((folder / "history.csv").read_text().splitlines()))
        runtime = json.loads(table.work.runtime(theirs["dataset"], variant, int(seed)).read_text())
        again = kept.get(seed, {}).get("weights_sha256") == theirs["weights_sha256"][seed]
        kept[seed] = {
            "weights_sha256": theirs["weights_sha256"][seed],
            "nll_nats": -values["iw_log_likelihood_nats"],
            "importance_samples": theirs["protocol"]["importance_samples"],
            "tight_nll_nats": -tight["seeds"][seed]["iw_log_likelihood_nats"],
            "elbo_nats": values["elbo_nats"],
            "selected_epoch": theirs["protocol"]["selected_epoch"][seed],
            "last_epoch": {name: float(value) for name, value in history[-1].items()},
            "training_minutes": round((runtime["epochs_finished_at"][-1] - runtime["started_at"]) / 60, 1),
            "machine": f"{system['system.cpu']}, torch {system['system.torch']}",
        } | ({name: kept[seed][name] for name in ("training_minutes", "machine")} if again else {})
    write(file, json.dumps(dict(sorted(kept.items(), key=lambda item: int(item[0]))), indent=1) + "\n")


def page(known: Mapping[str, Table]) -> str:
    """published/README.md."""
    return HEAD + "\n".join(section(table) for table in known.values())


def section(table: Table) -> str:
    """A table of the page."""
    literature, found = table.literature(), table.found()
    rows, notes = [], []
    for variant, (theirs, spread) in literature.log_px.items():
        assert theirs is not None
        published = f"{theirs:.2f}" + ("" if spread is None else f" ± {spread:.2f}")
        runs = list(found.get(variant, {}).values())
        if not runs:
            rows.append(f"| `{variant}` | {published} | not run here | | | | |")
            continue
        ours = [run["nll_nats"] for run in runs]
        tight = statistics.mean(run["tight_nll_nats"] for run in runs)
        own = statistics.stdev(ours) if len(ours) > 1 else None
        mean = statistics.mean(ours)
        shown = f"{mean:.2f}" + ("" if own is None else f" ± {own:.2f}")
        difference, error = compared(mean, own, len(ours), theirs, spread)
        loose = mean - tight
        rows.append(
            f"| `{variant}` | {published} | {shown} | {len(ours)} | {difference} | {error} "
            f"| {tight:.2f} ({loose:.2f}) |"
        )
        minutes = sum(run["training_minutes"] for run in runs)
        epochs = ", ".join(str(int(run["last_epoch"]["epoch"])) for run in runs)
        machines = "; ".join(sorted({run["machine"] for run in runs}))
        notes.append(f"- `{variant}`: {epochs} epochs, {minutes:.0f} minutes of one core for training. {machines}.")
    notes += [f"- `{variant}` is missing: {why}." for variant, why in literature.missing.items()]
    lines = [
        f"## {literature.title}",
        "",
        f"{literature.source}; {literature.spread}. Settings: [params.yaml]({table.name}/params.yaml).",
        "",
        "| variant | theirs | ours | seeds | difference | its standard error | tight (looseness) |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        *rows,
        "",
        *notes,
        "",
    ]
    return "\n".join(lines)


def compared(ours: float, own: float | None, seeds: int, theirs: float, spread: float | None) -> tuple[str, str]:
    """The difference and its standard error, as shown: the spread of one run is taken from the others where it is one.

    Both columns' seeds count: √(s²/n + s'²/3), with three seeds of theirs.
    """
    deviation = own if own is not None else spread
    if deviation is None:
        return f"{ours - theirs:+.2f}", "unknown"
    error = math.sqrt(deviation**2 / seeds + (spread or 0) ** 2 / 3)
    return f"{ours - theirs:+.2f}", f"{error:.2f}"


HEAD = """\
# Tables of the literature, reproduced

−log p(x) on the test images in nats, less is better. *Theirs* is the paper's figure, *ours* the same quantity from the
same protocol, by the same estimator with the same number of samples. *Tight* is the same trained models' −log p(x) by
this project's own estimator (a proposal fitted to each image, K = 300), and in brackets how much of our figure is the
looseness of the other. A ± is a standard deviation over seeds. The standard error of a difference is √(s²/n + s'²/3) of
both; where ours is one seed, s is theirs. It leaves out that papers draw the binary test pixels once, each on its own.

`make published` makes all of it, which takes days; `make published ONLY=fashion_mnist_binary/vae/0` a part. Training
goes on after any stop, and the same settings give the same bits.

"""


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:  # the next call goes on
        sys.exit(130)
