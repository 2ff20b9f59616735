"""One self-contained page: the comparison, its pictures, its protocol."""

import re
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from aebench.evaluation.metrics import metrics
from aebench.reporting import findings, pairs
from aebench.reporting.gallery import Picture
from aebench.reporting.maps import as_json, latent_maps
from aebench.reporting.pairs import Pair
from aebench.reporting.provenance import Provenance
from aebench.reporting.results import Results
from aebench.reporting.tables import footnotes, remarks, rows


def render(
    results: Results, found: Mapping[str, list[Pair]], gallery: Mapping[str, list[Picture]], made_from: Provenance
) -> str:
    """The page, from the results, each data set's compared pairs, its pictures, and what made all; a pure function."""
    sections = []
    for dataset, cells in results.datasets():
        lines = rows(cells, results.baselines[dataset], pairs.leaders(found[dataset]))
        notes = footnotes(lines, metrics())
        variants = [cell.variant for cell in cells]
        sections.append(
            {
                "name": dataset,
                "rows": lines,
                "seeds": max(len(cell.seeds) for cell in cells),
                "notes": notes,
                "remarks": remarks(cells, lines, notes),
                "in_short": findings.in_short(cells, found[dataset]),
                "how_compared": findings.how_compared(cells, found[dataset]) if found[dataset] else "",
                "matrix": pairs.matrix(found[dataset], variants),
                "pairs": [_shown(pair) for pair in found[dataset]],
                "warnings": [_with_code(line) for line in findings.warnings(cells)],
                "protocols": {cell.variant: _flat(cell.metrics["protocol"]) for cell in cells},
                "weights": {cell.variant: cell.metrics["weights_sha256"] for cell in cells},
                "pictures": gallery[dataset],
                "maps": Markup(as_json(maps) if (maps := latent_maps(cells, results.classes(dataset))) else ""),
            }
        )
    environment = Environment(
        loader=PackageLoader("aebench.reporting", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("page.html.jinja")
    return template.render(metrics=metrics(), sections=sections, made_from=made_from) + "\n"


def _with_code(line: str) -> Markup:
    """Markdown's `code` as HTML's."""
    return Markup(re.sub("`([^`]*)`", r"<code>\1</code>", str(escape(line))))


def _shown(pair: Pair) -> dict[str, str]:
    """A compared pair in the units in which its metric is shown."""
    metric, difference = metrics()[pair.metric], pair.difference

    def show(value: float) -> str:
        return f"{value * metric.scale:+.{metric.digits + 1}f}".replace("-", "−")

    return {
        "metric": " ".join(filter(None, (metric.title, f"[{metric.unit}]" if metric.unit else ""))),
        "pair": f"{pair.a} − {pair.b}",
        "difference": show(difference.mean),
        "interval": f"{show(difference.low)} to {show(difference.high)}",
        "bootstrap": " to ".join(map(show, pair.bootstrap)),
        "p": f"{pair.p_holm:.3f}" if pair.p_holm >= 0.001 else "< 0.001",
        "better": pair.verdict,
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
