"""report: the tables, the figures and the page, from what the other stages wrote."""

import json
import shutil

import _stage


def report() -> None:
    """Render the report of all cells that params.yaml names."""
    params = _stage.params()
    from aebench.reporting import findings, page, pairs, results, tables

    layout = _stage.LAYOUT
    found = results.load(params, layout)
    compared = {dataset: pairs.pairs(cells) for dataset, cells in found.datasets()}
    gallery = {dataset: page.pictures(dataset, cells) for dataset, cells in found.datasets()}
    shutil.rmtree(layout.figures, ignore_errors=True)
    for dataset, pictures in gallery.items():
        (layout.figures / dataset).mkdir(parents=True)
        for picture in pictures:
            (layout.figures / dataset / f"{picture.name}.png").write_bytes(picture.png)
    layout.overview.write_bytes(gallery[params.datasets[0]][0].png)
    layout.page.write_text(page.render(found, compared, gallery), encoding="utf-8")
    words = {dataset: findings.in_words(cells, compared[dataset]) for dataset, cells in found.datasets()}
    layout.comparison("md").write_text(tables.markdown(found, words), encoding="utf-8")
    pairs.table(compared, found).to_csv(layout.pairs, index=False, lineterminator="\n")
    tables.long_table(found).to_csv(layout.comparison("csv"), index=False, lineterminator="\n")
    layout.summary.write_text(json.dumps(tables.compact(found), indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    _stage.run(report)
