"""report: the tables, the figures and the page, from what the other stages wrote."""

import json
import shutil

import _stage


def report() -> None:
    """Render the report of all cells that params.yaml names."""
    params = _stage.params()
    from aebench.reporting import exports, findings, gallery, page, pairs, results, tables
    from aebench.reporting.provenance import provenance

    layout = _stage.LAYOUT
    found = results.load(params, layout)
    compared = {dataset: pairs.pairs(cells) for dataset, cells in found.datasets()}
    leaders = {dataset: pairs.leaders(of_dataset) for dataset, of_dataset in compared.items()}
    pictures = {dataset: gallery.pictures(dataset, cells) for dataset, cells in found.datasets()}
    shutil.rmtree(layout.figures, ignore_errors=True)
    for dataset, of_dataset in pictures.items():
        (layout.figures / dataset).mkdir(parents=True)
        for picture in of_dataset:
            (layout.figures / dataset / f"{picture.name}.png").write_bytes(picture.png)
    layout.overview.write_bytes(pictures[params.datasets[0]][0].png)
    layout.page.write_text(page.render(found, compared, pictures, provenance(params, layout.root)), encoding="utf-8")
    words = {dataset: findings.in_words(cells, compared[dataset]) for dataset, cells in found.datasets()}
    layout.comparison("md").write_text(tables.markdown(found, words, leaders), encoding="utf-8")
    layout.comparison("tex").write_text(exports.latex(found, leaders), encoding="utf-8")
    for path, table in (
        (layout.pairs, pairs.table(compared, found)),
        (layout.comparison("csv"), exports.long_table(found)),
        (layout.comparison("wide.csv"), exports.wide_table(found)),
    ):
        table.to_csv(path, index=False, lineterminator="\n")
    shutil.rmtree(layout.reports / "plots", ignore_errors=True)
    (layout.reports / "plots").mkdir()
    for name, table in exports.plots(found).items():
        table.to_csv(layout.reports / "plots" / f"{name}.csv", index=False, lineterminator="\n")
    layout.summary.write_text(json.dumps(exports.compact(found), indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    _stage.run(report)
