"""One self-contained page: the comparison, its pictures, its protocol."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from aebench.evaluation.metrics import metrics
from aebench.reporting import findings, pairs
from aebench.reporting.gallery import Picture
from aebench.reporting.maps import latent_maps
from aebench.reporting.pairs import Pair
from aebench.reporting.provenance import Provenance
from aebench.reporting.results import Cell, Results, flat, in_its_unit
from aebench.reporting.sheets import address
from aebench.reporting.tables import Entry, footnotes, remarks, rows

# Of the page, in rem: a table that needs more than it has is stacked.
TABLE_WIDTHS = (48, 64, 80)
LINKS = {
    "overview": "at a glance",
    "comparison": "comparison",
    "pairs": "which is better than which",
    "trust": "how far to trust it",
    "reconstructions": "reconstructions",
    "interpolations": "interpolations",
    "samples": "samples",
    "error-curves": "training",
    "k-curve": "bounds",
    "confusion": "codes",
    "maps": "maps",
    "protocol": "protocol",
}


def render(
    results: Results, compared: Mapping[str, list[Pair]], gallery: Mapping[str, list[Picture]], made_from: Provenance
) -> str:
    """The page, from the results, each data set's compared pairs, its pictures, and what made all; a pure function."""
    environment = Environment(
        loader=PackageLoader("aebench.reporting", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["address"] = address
    environment.globals["table_widths"] = TABLE_WIDTHS
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    sections = [
        _section(dataset, cells, results, compared[dataset], gallery[dataset]) for dataset, cells in results.datasets()
    ]
    weights = [
        (f"{cell.dataset}, {cell.variant}, seed {seed}", sha256)
        for cell in results.cells
        for seed, sha256 in cell.metrics["weights_sha256"].items()
    ]
    template = environment.get_template("page.html.jinja")
    return template.render(sections=sections, weights=weights, made_from=made_from) + "\n"


def _section(
    dataset: str, cells: list[Cell], results: Results, compared: list[Pair], gallery: list[Picture]
) -> dict[str, Any]:
    """What the template needs of one data set."""
    lines = rows(cells, results.baselines[dataset], pairs.leaders(compared))
    of_variants = [row.entries for row in lines if not row.baseline]
    shown = [metrics()[name] for name in of_variants[0] if any(entries[name].text for entries in of_variants)]
    notes = footnotes(lines, [metric.name for metric in shown])
    variants = [cell.variant for cell in cells]
    shared, differing = _protocols({cell.variant: _in_words(cell.metrics["protocol"]) for cell in cells})
    overview, *pictures = gallery
    section = {
        "name": dataset,
        "variants": variants,
        "rows": lines,
        "main": [metric for metric in shown if metric.main],
        "further": [metric for metric in shown if not metric.main],
        "notes": notes,
        "remarks": [*remarks(cells, lines, notes), *_absent(of_variants)],
        "in_short": findings.in_short(cells, compared),
        "how_compared": findings.how_compared(compared) if compared else "",
        "matrix": pairs.matrix(compared, variants),
        "pairs": [_shown(pair) for pair in compared],
        "warnings": findings.warnings(cells),
        "shared": shared,
        "differing": differing,
        "overview": overview,
        "pictures": pictures,
        "maps": latent_maps(cells, results.classes(dataset)),
    }
    there = {picture.name for picture in gallery} | {"comparison", "protocol"}
    there |= {name for name in ("pairs", "maps") if section[name]} | ({"trust"} if section["warnings"] else set())
    return section | {"links": [(name, title) for name, title in LINKS.items() if name in there]}


def _absent(of_variants: Sequence[Mapping[str, Entry]]) -> Iterator[str]:
    """Which metrics are not shown, since no variant has them."""
    for name in of_variants[0]:
        if not any(entries[name].text for entries in of_variants):
            reasons = dict.fromkeys(entries[name].reason for entries in of_variants)
            yield f"{metrics()[name].title} is not shown: not defined for any variant ({'; '.join(reasons)})."


def _protocols(protocols: Mapping[str, Mapping[str, str]]) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """From settings by variant: those on which all agree, and by setting the values of the others, by variant."""
    shared, differing = {}, {}
    for key in dict.fromkeys(key for settings in protocols.values() for key in settings):
        values = {variant: settings[key] for variant, settings in protocols.items() if key in settings}
        if len(values) == len(protocols) and len(set(values.values())) == 1:
            shared[key] = next(iter(values.values()))
        else:
            differing[key] = values
    return shared, differing


def _shown(pair: Pair) -> dict[str, str]:
    """A compared pair in the units in which its metric is shown."""
    metric, difference = metrics()[pair.metric], pair.difference
    show = partial(in_its_unit, metric=metric, sign="+", more=1)
    return {
        "metric": " ".join(filter(None, (metric.title, f"[{metric.unit}]" if metric.unit else ""))),
        "pair": f"{pair.a} − {pair.b}",
        "difference": show(difference.mean),
        "interval": f"{show(difference.low)} to {show(difference.high)}",
        "bootstrap": " to ".join(map(show, pair.bootstrap)),
        "p": f"{pair.p_holm:.3f}" if pair.p_holm >= 0.001 else "< 0.001",
        "better": pair.verdict,
    }


def _in_words(protocol: Mapping[str, Any]) -> dict[str, str]:
    """Settings under dotted names, as they are shown."""
    words = {True: "yes", False: "no", None: "none"}
    return {
        name: words[value] if value is None or isinstance(value, bool) else str(value) for name, value in flat(protocol)
    }
