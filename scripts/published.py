"""Tables of the literature, reproduced: `make published`, or `make published ONLY=TABLE/VARIANT/SEED` for a part of it.

A folder of published/ with a literature.yaml is a table: its params.yaml has the protocol, and literature.yaml what the
paper found. The runs are made in published/TABLE/work/, and what came out stands in published/TABLE/VARIANT.json, a
seed's beside those that were there before. It may be stopped at any time: the next call goes on from checkpoints. From
these files comes published/README.md, ours beside theirs.
"""

import csv
import json
import math
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import copies

from aebench import numerics, yaml
from aebench.config import Block, Count, Line, Name, from_list
from aebench.errors import ConfigError, UserError
from aebench.fingerprint import digest
from aebench.parsing import allowed, parse
from aebench.paths import HISTORY, Layout, write

ROOT = Layout(copies.ROOT)
PUBLISHED = copies.ROOT / "published"
# What takes the place of a table's own proposal, with as many samples, to find how loose its estimator is.
TIGHT = {"proposal": "laplace"}
COLUMNS = ("theirs", "ours", "seeds", "difference", "its standard error", "tight (looseness)")
Figure = Annotated[tuple[float, float | None], from_list]


class Literature(Block):
    """What a paper found: `log_px` is −log p(x) in nats for each variant, and its spread over `seeds` seeds."""

    title: Line
    source: Line
    spread: Line
    seeds: Count
    log_px: dict[Name, Figure]
    missing: dict[Name, Line]
    differences: Annotated[tuple[Line, ...], from_list] = ()


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

    def settings(self) -> dict[str, Any]:
        """Its params.yaml, in order.

        Raises:
            ConfigError: it is not, it has several data sets, or the paper's variants are others.
        """
        from aebench.training.settings import read_params

        file = self.folder / "params.yaml"
        params = read_params(file, ROOT.datasets)
        if len(params.datasets) > 1:
            raise ConfigError(f"{file}: datasets: found {', '.join(params.datasets)}, allowed: one data set")
        if set(params.variants) != set(self.literature().log_px):
            raise ConfigError(f"{file}: variants: found {', '.join(params.variants)}, allowed: the paper's variants")
        settings = yaml.read(file)
        assert isinstance(settings, dict)
        return settings

    def results(self, variant: str) -> dict[str, dict[str, Any]]:
        """What was found here, by seed, with the settings that the table has now.

        Raises:
            UserError: the file is damaged.
        """
        file = self.folder / f"{variant}.json"
        if not file.is_file():
            return {}
        try:
            runs: dict[str, dict[str, Any]] = json.loads(file.read_text())
            now = made_by(self.settings(), variant)
            return {seed: run for seed, run in runs.items() if run["settings"] == now}
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise UserError(f"{file}: found what is no result ({error}), allowed: delete it and make it anew") from None


def made_by(settings: Mapping[str, Any], variant: str) -> str:
    """The hash of all settings on which a variant's results depend."""
    apart = ("variants", "seeds", "models", "execution", "tracking")
    shared = {key: settings[key] for key in settings if key not in apart}
    return digest(json.dumps([shared, settings["models"][variant], TIGHT], sort_keys=True).encode())


def tables() -> dict[str, Table]:
    """All there are."""
    return {path.parent.name: Table(path.parent.name) for path in sorted(PUBLISHED.glob("*/literature.yaml"))}


def main() -> None:
    """Make what is asked for, variant after variant, and the page after each.

    Raises:
        UserError: there is no such table, variant or seed, a file is not in order, or not all of it succeeded.
    """
    numerics.limit("portable")
    known = tables()
    wanted = asked(known, sys.argv[1:])
    failed = []
    for table, variant, seed in wanted:
        if not made(table, variant, seed):
            failed.append(f"{table.name}/{variant}")
        write(PUBLISHED / "README.md", page(known))
    print(f"\nSee {PUBLISHED / 'README.md'}")
    if failed:
        raise UserError(f"not finished: {', '.join(failed)}; the lines above say why, and the next call goes on")


def asked(known: Mapping[str, Table], arguments: Sequence[str]) -> list[tuple[Table, str, str | None]]:
    """The tables' variants that are to be made, and of each the seed, or None for all.

    Raises:
        UserError: there is no such table, variant or seed, or a file is not in order.
    """
    parts = [part for argument in arguments for part in argument.split("/") if part]
    if len(arguments) > 1 or len(parts) > 3:
        raise UserError(f"ONLY: found {' '.join(arguments)}, allowed: one of TABLE, TABLE/VARIANT, TABLE/VARIANT/SEED")
    name, variant, seed = (*parts, None, None, None)[:3]
    chosen = [known[one_of(name, known)]] if name else list(known.values())
    wanted = []
    for table in chosen:
        settings = table.settings()
        variants = [one_of(variant, settings["variants"])] if variant else settings["variants"]
        wanted += [(table, each, seed and one_of(seed, settings["seeds"])) for each in variants]
    return wanted


def one_of(name: str, names: Iterable[object]) -> str:
    """The name, if it is one of them."""
    known = [str(each) for each in names]
    if name not in known:
        raise UserError(f"ONLY: found {name}, {allowed(name, known)}")
    return name


def made(table: Table, variant: str, seed: str | None) -> bool:
    """Run a variant's seeds by the table's own estimator and by the tight one; whether all of it succeeded."""
    settings = table.settings()
    now, dataset = made_by(settings, variant), settings["datasets"][0]
    settings["variants"] = [variant]
    settings["seeds"] = [each for each in settings["seeds"] if seed in (None, str(each))]
    results = []
    for changes in ({}, TIGHT):
        whole = settings | {"evaluation": settings["evaluation"] | changes}
        copies.make(table.work.root, copies.dumped(whole, "make published"))
        copies.share(table.work.root)
        if not copies.repro(table.work.root):
            return False
        results.append(json.loads(table.work.metrics(dataset, variant).read_text()))
    return keep(table, variant, now, *results)


def keep(table: Table, variant: str, now: str, theirs: Mapping[str, Any], tight: Mapping[str, Any]) -> bool:
    """Put what was found for a variant's seeds beside those that stand in its file already; whether none diverged."""
    from aebench.tracking.facts import of_system

    kept, system = table.results(variant), of_system()
    failed = {**tight["failed"], **theirs["failed"]}
    for seed, why in failed.items():
        kept.pop(seed, None)
        print(f"{variant} seed {seed}: {why}", file=sys.stderr)
    for seed in theirs["seeds"].keys() - failed.keys():
        values, run = theirs["seeds"][seed], (theirs["dataset"], variant, int(seed))
        history = list(csv.DictReader((table.work.run(*run) / HISTORY).read_text().splitlines()))
        runtime = json.loads(table.work.runtime(*run).read_text())
        weights = theirs["weights_sha256"][seed]
        known = kept.get(seed, {})
        kept[seed] = {
            "settings": now,
            "weights_sha256": weights,
            "nll_nats": -values["iw_log_likelihood_nats"],
            "tight_nll_nats": -tight["seeds"][seed]["iw_log_likelihood_nats"],
            "elbo_nats": values["elbo_nats"],
            "selected_epoch": theirs["protocol"]["selected_epoch"][seed],
            "last_epoch": {name: float(value) for name, value in history[-1].items()},
            "training_minutes": round((runtime["epochs_finished_at"][-1] - runtime["started_at"]) / 60, 1),
            "machine": f"{system['system.cpu']}, torch {system['system.torch']}",
        } | {name: known[name] for name in ("training_minutes", "machine") if known.get("weights_sha256") == weights}
    text = json.dumps(dict(sorted(kept.items(), key=lambda item: int(item[0]))), indent=1) + "\n"
    write(table.folder / f"{variant}.json", text)
    return not failed


def page(known: Mapping[str, Table]) -> str:
    """published/README.md."""
    return HEAD + "\n".join(section(table) for table in known.values())


def row(table: Table, variant: str) -> list[str]:
    """What the page says of a variant: theirs, ours, seeds, difference, its standard error, tight."""
    literature = table.literature()
    theirs, spread = literature.log_px[variant]
    published = f"{theirs:.2f}" + ("" if spread is None else f" ± {spread:.2f}")
    runs = list(table.results(variant).values())
    if not runs:
        return [f"`{variant}`", published, "not run here", "", "", "", ""]
    ours = [run["nll_nats"] for run in runs]
    own = statistics.stdev(ours) if len(ours) > 1 else None
    mean, tight = statistics.mean(ours), statistics.mean(run["tight_nll_nats"] for run in runs)
    error = standard_error(own, len(ours), spread, literature.seeds)
    return [
        *(f"`{variant}`", published, f"{mean:.2f}" + ("" if own is None else f" ± {own:.2f}"), str(len(ours))),
        *(signed(mean - theirs), "unknown" if error is None else f"{error:.2f}"),
        f"{tight:.2f} ({signed(mean - tight)})",
    ]


def lines(*rows: Sequence[str]) -> list[str]:
    """A table in Markdown; the first row is its head, and all but the first column are numbers."""
    head, *body = (f"| {' | '.join(each)} |" for each in rows)
    return [head, "| --- |" + " ---: |" * (len(rows[0]) - 1), *body]


def parts() -> dict[str, str]:
    """What README.md shows, by the name of its mark: what was run here."""
    rows = []
    for table in tables().values():
        literature = table.literature()
        ran = [row(table, variant)[:6] for variant in literature.log_px if table.results(variant)]
        if ran:
            rows += [*lines([f"{literature.title}: −log p(x) in nats", *COLUMNS[:5]], *ran), ""]
    return {"tables of the literature": "\n".join(rows)}


def section(table: Table) -> str:
    """A table of the page."""
    literature, notes = table.literature(), []
    for variant in literature.log_px:
        runs = list(table.results(variant).values())
        if not runs:
            continue
        minutes = sum(run["training_minutes"] for run in runs)
        epochs = ", ".join(str(int(run["last_epoch"]["epoch"])) for run in runs)
        machines = "; ".join(sorted({run["machine"] for run in runs}))
        notes.append(f"- `{variant}`: {epochs} epochs, {minutes:.0f} minutes of training, a run on a core. {machines}.")
    notes += [f"- `{variant}` is missing: {why}." for variant, why in literature.missing.items()]
    notes += [f"- Not as theirs: {difference}." for difference in literature.differences]
    shown = [
        f"## {literature.title}",
        "",
        f"{literature.source}; {literature.spread}. Settings: [params.yaml]({table.name}/params.yaml).",
        "",
        *lines(["variant", *COLUMNS], *(row(table, variant) for variant in literature.log_px)),
        "",
        *notes,
        "",
    ]
    return "\n".join(shown)


def signed(value: float) -> str:
    """With two decimals and a sign."""
    return f"{value:+.2f}".replace("-", "−")


def standard_error(own: float | None, seeds: int, theirs: float | None, their_seeds: int) -> float | None:
    """Of the difference of two means over seeds, √(s²/n + s'²/n'); a spread that is not known is that of the other."""
    known = [spread for spread in (own, theirs) if spread is not None]
    if not known:
        return None
    return math.hypot(known[0] / math.sqrt(seeds), known[-1] / math.sqrt(their_seeds))


HEAD = """\
# Tables of the literature

−log p(x) on the test images in nats, less is better. *Theirs* is the paper's figure. *Ours* is the same quantity by
the same estimator with the same number of samples; the protocol is the same but for the differences that are listed
below each table. *Tight* is the same trained models' −log p(x) from as many samples of this project's own proposal, a
Gaussian fitted to each image, and in brackets *ours* minus *tight*: how much looser the paper's estimator is, at the
least, for both are bounds and the lower figure is nearer to the truth. No Gaussian fits the posterior of two levels of
latents well, so that *tight* is loose there too: k̂ passes its limit for most of the images. A ± is a standard
deviation over seeds. The standard error of a difference is √(s²/n + s'²/n') of both; a spread that is not known is
taken to be the other's. It leaves out that the binary test pixels are drawn once, by each paper on its own, and are
the same for all seeds: on Fashion-MNIST that adds about 0.13 nats to the standard error of a difference (the log p(x)
of a VAE of the default benchmark varies by 9 nats from one draw of an image to the next).

`make published` makes all of it, which takes days; `make published ONLY=fashion_mnist_binary/vae/0` a part. Training
goes on after any stop, and the same settings give the same bits.

"""


if __name__ == "__main__":
    copies.finish(main)
