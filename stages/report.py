"""report: the tables, the figures and the page, from what the other stages wrote."""

import json
import sys

import _stage


def report() -> None:
    """Render the report of all cells that params.yaml names."""
    params = _stage.params()
    from aebench.reporting import exports, findings, fonts, gallery, overview, page, pairs, results, tables
    from aebench.reporting.provenance import provenance

    layout = _stage.LAYOUT
    loaded = results.load(params, layout)
    compared = {dataset: pairs.pairs(cells) for dataset, cells in loaded.datasets()}
    leaders = {dataset: pairs.leaders(of_dataset) for dataset, of_dataset in compared.items()}
    pictures = {
        dataset: gallery.pictures(cells, loaded.classes(dataset), leaders[dataset])
        for dataset, cells in loaded.datasets()
    }
    if letters := fonts.lacking(name for dataset in params.datasets for name in loaded.classes(dataset)):
        print(f"warning: no font here has {' '.join(letters)}; the pictures show boxes in their place", file=sys.stderr)
    _stage.empty(layout.figures)
    for dataset, of_dataset in pictures.items():
        for name, png in (file for picture in of_dataset for file in picture.files().items()):
            _stage.write(layout.figures / dataset / f"{name}.png", png)
    dataset, cells = next(loaded.datasets())
    _stage.write(layout.overview, overview.draw_all(overview.charts(cells, leaders[dataset])))
    made_from = provenance(params, _stage.all_code(), layout.pins, loaded.raw_files)
    _stage.write(layout.page, page.render(loaded, compared, pictures, made_from))
    words = {dataset: findings.in_words(cells, compared[dataset]) for dataset, cells in loaded.datasets()}
    _stage.write(layout.comparison("md"), tables.markdown(loaded, words, leaders))
    _stage.write(layout.comparison("tex"), exports.latex(loaded, leaders))
    for path, table in (
        (layout.pairs, pairs.table(compared, loaded)),
        (layout.comparison("csv"), exports.long_table(loaded)),
        (layout.comparison("wide.csv"), exports.wide_table(loaded)),
    ):
        _stage.write(path, table.to_csv(index=False, lineterminator="\n"))
    _stage.empty(layout.reports / "plots")
    for name, table in exports.plots(loaded).items():
        _stage.write(layout.reports / "plots" / f"{name}.csv", table.to_csv(index=False, lineterminator="\n"))
    _stage.write(layout.summary, json.dumps(exports.compact(loaded), indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    _stage.run(report)
