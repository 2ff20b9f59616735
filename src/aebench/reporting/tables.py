"""The comparison as tables: numbers with their uncertainty, and reasons where there is no number."""

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from aebench.evaluation.metrics import Metric, main_metrics
from aebench.reporting.results import Cell, Results, in_its_unit, measured_in

Leaders = Mapping[str, Collection[str]]
"""By metric the variants whose values are marked as best."""

BASELINE_TITLES = {"mean_image": "mean image", "pca": "PCA", "raw_pixels": "raw pixels"}


@dataclass(frozen=True)
class Entry:
    """One cell of the table: `text`, or none and the `reason`; `detail` is the whole of what is known.

    `best`: the variant is better than every other one that it is compared with.
    """

    text: str = ""
    reason: str = ""
    detail: str = ""
    value: float | None = None
    best: bool = False


@dataclass(frozen=True)
class Row:
    """One line of the table.

    `supervised`: the variant has learned from labels. `improving`: a run of it was, when its training ended.
    """

    name: str
    entries: dict[str, Entry]
    baseline: bool = False
    supervised: bool = False
    improving: bool = False
    parameters: int | None = None

    @property
    def marks(self) -> str:
        """What stands behind the name, and is explained below the table."""
        return "†" * self.supervised + "‡" * self.improving


def rows(cells: Sequence[Cell], baselines: Mapping[str, Any], leaders: Leaders) -> list[Row]:
    """The lines of one data set's comparison: variants as params.yaml orders them, then baselines."""
    measured = measured_in(cells)
    likelihoods = {cell.metrics["protocol"].get("likelihood") for cell in cells} - {None}
    lines = [
        Row(
            cell.variant + _in_brackets(cell, len(likelihoods) > 1),
            {
                name: _entry(
                    metric,
                    cell.metrics["summary"].get(name),
                    cell.metrics["not_defined"].get(name, "is not in the metric file"),
                    best=cell.variant in leaders.get(name, ()),
                )
                for name, metric in measured.items()
            },
            supervised=cell.metrics["protocol"]["trained_with_labels"],
            improving=cell.still_improving > 0,
            parameters=cell.metrics["parameters"],
        )
        for cell in cells
    ]
    for name, title in BASELINE_TITLES.items():
        of_baseline = baselines["baselines"][name]
        if name == "pca":
            components = min(baselines["latent_dim"], math.prod(baselines["data"]["shape"]))
            title = f"{title}, {components} component{'s' * (components > 1)}"
        reason = "is a baseline without this figure"
        entries = {key: _entry(metric, of_baseline.get(key), reason) for key, metric in measured.items()}
        lines.append(Row(title, entries, baseline=True))
    return lines


def _in_brackets(cell: Cell, several: bool) -> str:
    """Beside a variant's name its likelihood, where not all have the same, and how many of its seeds are left."""
    likelihood = cell.metrics["protocol"].get("likelihood")
    notes = [likelihood] if several and likelihood else []
    if cell.failed:
        notes.append(f"{len(cell.seeds)} of {len(cell.seeds) + len(cell.failed)} seeds")
    return f" ({', '.join(notes)})" if notes else ""


def _entry(metric: Metric, summary: Mapping[str, Any] | None, reason: str, *, best: bool = False) -> Entry:
    if summary is None:
        return Entry(reason=reason)
    show = partial(in_its_unit, metric=metric)
    text = show(summary["mean"])
    details = []
    if "ci95" in summary:
        text += f" ± {show((summary['ci95'][1] - summary['ci95'][0]) / 2)}"
        details.append(f"sd {show(summary['sd'])}, 95 % over seeds {' to '.join(map(show, summary['ci95']))}")
    if "ci95_images" in summary:
        details.append(f"95 % over images {' to '.join(map(show, summary['ci95_images']))}")
    return Entry(text=text, detail="; ".join(details), value=summary["mean"], best=best)


def footnotes(lines: Iterable[Row], shown: Iterable[str]) -> dict[str, int]:
    """The reasons for empty cells of the variants, numbered in order of appearance."""
    notes: dict[str, int] = {}
    for row in lines:
        for name in shown:
            if row.entries[name].reason and not row.baseline:
                notes.setdefault(row.entries[name].reason, len(notes) + 1)
    return notes


def markdown(results: Results, findings: Mapping[str, Sequence[str]], leaders: Mapping[str, Leaders]) -> str:
    """The comparison as Markdown: a table a data set, its findings, then notes."""
    shown = main_metrics()
    parts = []
    for dataset, cells in results.datasets():
        lines = rows(cells, results.baselines[dataset], leaders[dataset])
        notes = footnotes(lines, shown)
        table = [["", *(metric.heading for metric in shown.values()), "weights"]]
        for row in lines:
            entries = (
                _marked(row.entries[name]) or ("" if row.baseline else f"[{notes[row.entries[name].reason]}]")
                for name in shown
            )
            name = f"*{row.name}*" if row.baseline else f"**{_plain(row.name)}** {row.marks}".rstrip()
            table.append([name, *entries, "" if row.parameters is None else f"{row.parameters:,}".replace(",", " ")])
        head, *body = ("| " + " | ".join(line) + " |" for line in table)
        drawn = "\n".join([head, "| --- |" + " ---: |" * (len(table[0]) - 1), *body])
        sentences = "\n".join(f"- {_without_html(line)}" for line in findings[dataset])
        notes_on_it = "\n".join(f"- {_without_html(line)}" for line in remarks(cells, lines, notes))
        parts.append(f"### {dataset}\n\n{drawn}\n\n{sentences}\n\nNotes\n\n{notes_on_it}")
    return "\n\n".join(parts) + "\n"


def _without_html(text: str) -> str:
    """Text in one line in which nothing is taken for an HTML element."""
    return re.sub(r"<(?=[a-zA-Z/!?])", "&lt;", re.sub(r"[\r\n]+", " ", text))


def _plain(name: str) -> str:
    """A name that cannot end the cell of a table in which it stands."""
    return _without_html(name).replace("|", "\\|")


def _marked(entry: Entry) -> str:
    return f"**{entry.text}**" if entry.best else entry.text


def remarks(cells: Sequence[Cell], lines: Sequence[Row], notes: Mapping[str, int]) -> list[str]:
    """What must be known to read one data set's table."""
    protocols = [cell.metrics["protocol"] for cell in cells]
    seeds, images = (max(protocol[key] for protocol in protocols) for key in ("seeds", "images"))
    over_seeds = (
        f"mean over {seeds} seeds ± half the 95 % interval over seeds (Student's t)" if seeds > 1 else "one seed"
    )
    sentences = [
        f"Test split, {images} images; {over_seeds}. The interval over images is another one: it "
        "stands in comparison.csv."
    ]
    for protocol in protocols:
        if "likelihood" in protocol:
            note = (
                f"Nats under p(x|z) = {protocol['likelihood']}: {protocol['likelihood_note']}. "
                f"log p̂: importance-weighted, K = {protocol['importance_samples']}, proposal {protocol['proposal']}."
            )
            sentences += [note] if note not in sentences else []
    if len({protocol["likelihood"] for protocol in protocols if "likelihood" in protocol}) > 1:
        sentences.append("Nats under different likelihoods are different quantities: they are not compared.")
    expost = protocols[0]["evaluation"]["expost"]
    if any("expost_log_likelihood_nats" in cell.metrics["summary"] for cell in cells):
        sentences.append(
            "ex-post log p̂: a Gaussian around the decoder's mean and a mixture of Gaussians fitted to training codes, "
            f"the same for every variant, on {min(expost['images'], images)} test images, "
            f"K = {expost['importance_samples']}; a density, not comparable with log p̂."
        )
    if any(row.supervised for row in lines):
        sentences.append(
            "† trained with labels; its codes and reconstructions are made without them. Its probes are not compared "
            "with those of variants that were not."
        )
    if any(row.improving for row in lines):
        sentences.append(
            "‡ still improving when training ended, in at least one seed: the lowest validation loss lies in the last "
            "tenth of its epochs."
        )
    if any(entry.best for row in lines for entry in row.entries.values()):
        sentences.append("A value in bold is better than that of every other variant that it is compared with.")
    sentences += [f"[{number}] not defined: {reason}." for reason, number in notes.items()]
    return sentences
