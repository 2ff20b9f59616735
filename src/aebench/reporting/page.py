"""One self-contained page: the comparison, its pictures, its protocol."""

import base64
import re
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from numpy.typing import NDArray

from aebench.data.datasets import DATASETS
from aebench.reporting import figures, findings
from aebench.reporting.pairs import Pair
from aebench.reporting.results import Cell, Results
from aebench.reporting.tables import COLUMNS, footnotes, remarks, rows


@dataclass(frozen=True)
class Picture:
    """A figure with the sentence that says what to see in it."""

    name: str
    title: str
    caption: str
    png: bytes

    @property
    def source(self) -> str:
        """The picture as a `data:` address."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode()


def pictures(dataset: str, cells: list[Cell]) -> list[Picture]:
    """The figures of one data set."""
    classes = DATASETS[dataset].classes
    first = {cell.variant: cell.arrays(cell.seeds[0]) for cell in cells}
    seed = f"seed {cells[0].seeds[0]}"
    some = next(iter(first.values()))
    curves = {cell.variant: [cell.history(seed) for seed in cell.seeds] for cell in cells}
    range_over_seeds = "Lines are means over seeds, bands the range over seeds."
    found = [
        Picture(
            "reconstructions",
            "Reconstructions",
            f"The first test image of each class (top) and what each variant makes of it ({seed}); "
            "no label is given to any variant.",
            figures.image_rows(
                {"original": some["originals"]} | {name: arrays["reconstructions"] for name, arrays in first.items()},
                classes,
            ),
        ),
        Picture(
            "denoising",
            "Denoising",
            f"The same images, their corrupted inputs, and what each variant restores ({seed}). "
            "Only a DAE has been trained to.",
            figures.image_rows(
                {"original": some["originals"], "corrupted": some["corrupted"]}
                | {name: arrays["restored"] for name, arrays in first.items()},
                classes,
            ),
        ),
    ]
    if (png := figures.error_curves(curves)) is not None:
        caption = f"Error on validation images (the first 1,000) after each epoch; lower is better. {range_over_seeds}"
        found.append(Picture("error-curves", "Reconstruction error in training", caption, png))
    caption = (
        f"Each variant's own objective; the scales differ, so compare within a panel. {range_over_seeds} "
        "A DAE's training and validation inputs are corrupted."
    )
    found.append(Picture("loss-curves", "Losses in training", caption, figures.loss_curves(curves)))
    bounds = {
        cell.variant: (cell.seed_vectors("k_curve_samples")[0], cell.seed_vectors("k_curve_nats"))
        for cell in cells
        if "k_curve_nats" in cell.metrics["vectors"]
    }
    if bounds:
        caption = (
            "The bound on log p(x) with K samples, each point from all disjoint blocks of the same samples; at K = 1 "
            "it is the ELBO (a little more where a label is summed out). Where a curve still rises at its end, a "
            f"larger K would raise log p̂. {range_over_seeds}"
        )
        found.append(Picture("k-curve", "The bound and the number of samples", caption, figures.k_curves(bounds)))
    for cell in cells:
        if "samples" not in (arrays := first[cell.variant]):
            continue
        by_class = cell.metrics["protocol"]["trained_with_labels"]
        names = classes if by_class else [""] * len(arrays["samples"])
        caption = f"Means of p(x|z) for z drawn from the prior ({seed})" + (
            ", a row for each class: z is drawn from p(z|y)." if by_class else "."
        )
        png = figures.image_rows(_named_rows(names, arrays["samples"]))
        found.append(Picture(f"samples-{cell.variant}", f"Samples of {cell.variant}", caption, png))
    maps = {name: arrays["plane"] for name, arrays in first.items()}
    caption = (
        f"Codes of the {len(some['labels']):,} test images on their first two principal components ({seed}), coloured "
        "by class. Classes that overlap here may still lie apart in the other dimensions."
    )
    found.append(Picture("latent-space", "Latent space", caption, figures.latent_maps(maps, some["labels"], classes)))
    return found


def _named_rows(names: Any, images: NDArray[Any]) -> dict[str, NDArray[Any]]:
    # Rows without a name still need keys that differ.
    return {name or " " * position: row for position, (name, row) in enumerate(zip(names, images, strict=True))}


def render(results: Results, found: dict[str, list[Pair]], gallery: dict[str, list[Picture]]) -> str:
    """The page, from the results, each data set's compared pairs and its pictures; a pure function of them."""
    sections = []
    for dataset, cells in results.datasets():
        lines = rows(cells, results.baselines[dataset])
        notes = footnotes(lines, COLUMNS)
        sections.append(
            {
                "name": dataset,
                "rows": lines,
                "seeds": len(cells[0].seeds),
                "notes": notes,
                "remarks": remarks(cells, lines, notes),
                "differences": findings.differences(cells, found[dataset]),
                "how_compared": findings.how_compared(len(cells[0].seeds)) if found[dataset] else "",
                "pairs": [_shown(pair) for pair in found[dataset]],
                "warnings": [_with_code(line) for line in findings.warnings(cells)],
                "protocols": {cell.variant: _flat(cell.metrics["protocol"]) for cell in cells},
                "pictures": gallery[dataset],
            }
        )
    environment = Environment(
        loader=PackageLoader("aebench.reporting", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.jinja").render(columns=COLUMNS, sections=sections) + "\n"


def _with_code(line: str) -> Markup:
    """Markdown's `code` as HTML's."""
    return Markup(re.sub("`([^`]*)`", r"<code>\1</code>", str(escape(line))))


def _shown(pair: Pair) -> dict[str, str]:
    """A compared pair in the units of its metric's column."""
    column, difference = COLUMNS[pair.metric], pair.difference

    def show(value: float) -> str:
        return f"{value * column.scale:+.{column.digits + 1}f}".replace("-", "−")

    return {
        "metric": " ".join(filter(None, (column.title, f"[{column.unit}]" if column.unit else ""))),
        "pair": f"{pair.a} − {pair.b}",
        "difference": show(difference.mean),
        "interval": f"{show(difference.low)} to {show(difference.high)}",
        "bootstrap": " to ".join(map(show, pair.bootstrap)),
        "p": f"{pair.p_holm:.3f}" if pair.p_holm >= 0.001 else "< 0.001",
        "better": pair.better[0] if pair.better else "not shown",
    }


def _flat(protocol: dict[str, Any]) -> dict[str, str]:
    """Settings in words: nested ones under dotted names."""
    flat: dict[str, str] = {}
    for key, value in protocol.items():
        if isinstance(value, dict):
            flat |= {f"{key}.{name}": text for name, text in _flat(value).items()}
        else:
            flat[key] = {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
    return flat
