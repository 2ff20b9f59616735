"""The comparison for other programs: CSV, LaTeX, and DVC's metrics."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from aebench.evaluation.metrics import main_metrics
from aebench.reporting.figures import LEGIBLE_CLASSES
from aebench.reporting.results import Cell, Results, confusion, measured_in, statistics
from aebench.reporting.tables import Leaders, rows

LONG_COLUMNS = (
    *("dataset", "variant", "metric", "mean", "sd", "ci95_low", "ci95_high", "ci95_images_low", "ci95_images_high"),
    *("seeds", "failed", "not_defined"),
)


def long_table(results: Results) -> pd.DataFrame:
    """One row a data set × variant × metric: the mean, its uncertainty, or the reason why there is none.

    Baselines are among the variants, as `baseline:NAME`.
    """
    table: list[dict[str, Any]] = []
    measured = measured_in(results.cells)
    for cell in results.cells:
        of_cell = {"dataset": cell.dataset, "variant": cell.variant, **_seeds(cell)}
        for metric in measured:
            figures = statistics(cell.metrics["summary"].get(metric, {}))
            table.append(
                of_cell | {"metric": metric, **figures, "not_defined": cell.metrics["not_defined"].get(metric)}
            )
    for dataset, document in results.baselines.items():
        for name, of_baseline in document["baselines"].items():
            of_cell = {"dataset": dataset, "variant": f"baseline:{name}"}
            table += [of_cell | {"metric": metric, **statistics(figures)} for metric, figures in of_baseline.items()]
    return pd.DataFrame(table, columns=LONG_COLUMNS).astype({"seeds": "Int64", "failed": "Int64"})


def wide_table(results: Results) -> pd.DataFrame:
    """One row a data set × variant: how many weights, seeds and failed seeds, and every metric's mean, sd, interval."""
    table, measured = [], measured_in(results.cells)
    for cell in results.cells:
        row: dict[str, Any] = {"dataset": cell.dataset, "variant": cell.variant, "weights": cell.metrics["parameters"]}
        row |= _seeds(cell)
        for metric in measured:
            figures = statistics(cell.metrics["summary"].get(metric, {}))
            row[metric] = figures.get("mean")
            row |= {f"{metric}_{name}": figures.get(name) for name in ("sd", "ci95_low", "ci95_high")}
        table.append(row)
    return pd.DataFrame(table)


def _seeds(cell: Cell) -> dict[str, int]:
    return {"seeds": len(cell.metrics["seeds"]), "failed": len(cell.failed)}


def latex(results: Results, leaders: Mapping[str, Leaders]) -> str:
    """The main table as LaTeX for the package booktabs, a `tabular` a data set; best values in bold."""
    shown = main_metrics()
    parts = [
        "% Needs \\usepackage{booktabs}. Bold: better than every other variant compared, p < 0.05 after Holm,\n"
        "% and by more than the bounds' gap where it was measured."
    ]
    for dataset, cells in results.datasets():
        heads = [[_tex(metric.title), _tex(metric.unit)] for metric in shown.values()]
        head = [" & ".join(["", *(title for title, _ in heads)]), " & ".join(["", *(unit for _, unit in heads)])]
        lines = []
        for row in rows(cells, results.baselines[dataset], leaders[dataset]):
            name = _tex(row.name) + (f"$^{{{_tex(row.marks)}}}$" if row.marks else "")
            values = []
            for metric in shown:
                entry = row.entries[metric]
                text = _tex(entry.text) if entry.text else "--"
                values.append(rf"\textbf{{{text}}}" if entry.best else text)
            lines.append(" & ".join([name, *values]) + r" \\")
        first_baseline = len(cells)
        lines.insert(first_baseline, r"\midrule")
        parts.append(
            "\n".join(
                [
                    f"% {dataset}",
                    rf"\begin{{tabular}}{{l{'r' * len(shown)}}}",
                    r"\toprule",
                    *(line + r" \\" for line in head),
                    r"\midrule",
                    *lines,
                    r"\bottomrule",
                    r"\end{tabular}",
                ]
            )
        )
    return "\n\n".join(parts) + "\n"


_TEX_SIGNS = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"},
    **{"†": r"\dagger{}", "‡": r"\ddagger{}", "p̂": r"$\hat p$", "±": r"$\pm$", "−": r"$-$", "⁻³": r"$^{-3}$"},
}


def _tex(text: str) -> str:
    """Text in one line, what means something to LaTeX made harmless, and mathematical signs as LaTeX writes them."""
    signs = "|".join(map(re.escape, _TEX_SIGNS))
    return re.sub(signs, lambda sign: _TEX_SIGNS[sign[0]], " ".join(text.splitlines()))


def plots(results: Results) -> dict[str, pd.DataFrame]:
    """For `dvc plots`: the curves of every run, each run's bound by K, and what the probes of all its seeds confuse.

    A table without rows keeps its columns, by which DVC knows its plots. Confusions of more classes than can be read in
    one picture are left out.
    """
    curves = [pd.DataFrame(columns=["epoch", "train_loss", "validation_loss", "validation_reconstruction_mse"])]
    bounds = [pd.DataFrame(columns=["samples", "bound_nats"])]
    confusions = [pd.DataFrame(columns=["actual", "predicted", "images"])]
    for cell in (cell for cell in results.cells if cell.seeds):
        of_cell = {"dataset": cell.dataset, "cell": f"{cell.dataset}/{cell.variant}"}
        for seed in cell.seeds:
            frame = pd.DataFrame(cell.history(seed))
            curves.append(frame.reindex(columns=curves[0].columns).assign(**of_cell, seed=seed))
        if "k_curve_nats" in cell.metrics["vectors"]:
            samples, nats = cell.seed_vectors("k_curve_samples"), cell.seed_vectors("k_curve_nats")
            for seed, of_k, bound in zip(cell.seeds, samples, nats, strict=True):
                bounds.append(pd.DataFrame({"samples": of_k, "bound_nats": bound}).assign(**of_cell, seed=seed))
        classes = results.classes(cell.dataset)
        if len(classes) > LEGIBLE_CLASSES:
            continue
        counts = sum(confusion(cell.arrays(seed), len(classes)) for seed in cell.seeds)
        pairs = pd.MultiIndex.from_product([classes, classes], names=["actual", "predicted"])
        confusions.append(pd.DataFrame({"images": np.ravel(counts)}, pairs).reset_index().assign(**of_cell))
    tables = {"curves": curves, "k_curve": bounds, "confusion": confusions}
    return {name: pd.concat(frames[1:] or frames, ignore_index=True) for name, frames in tables.items()}


def compact(results: Results) -> dict[str, Any]:
    """The means alone, for `dvc metrics`: data set → variant → metric; and of how many seeds, and how many failed."""
    return {
        dataset: {
            cell.variant: {
                **_seeds(cell),
                **{metric: value["mean"] for metric, value in cell.metrics["summary"].items()},
            }
            for cell in cells
        }
        for dataset, cells in results.datasets()
    }
