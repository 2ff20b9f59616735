"""The benchmark of params.yaml under other settings: `make converged`, `make families`.

What is different from params.yaml stands in settings/NAME.yaml. The pipeline runs in NAME/, and the comparison goes to
published/NAME/. It takes hours. It may be stopped at any time: finished runs are kept, and the others go on from their
checkpoints.
"""

import sys
from typing import TYPE_CHECKING

import copies

from aebench import config, numerics, yaml
from aebench.errors import UserError
from aebench.parsing import allowed
from aebench.paths import Layout, empty, write

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd

    from aebench.reporting.results import Results

ROOT = Layout(copies.ROOT)
NAME = sys.argv[1] if len(sys.argv) > 1 else "converged"
COPY = Layout(copies.ROOT / NAME)
SETTINGS = copies.ROOT / "settings" / f"{NAME}.yaml"
PUBLISHED = copies.ROOT / "published" / NAME
WORDS = {
    "converged": (
        "The comparison, converged",
        "The benchmark of this repository, trained to the end: every run went on until nothing improved.",
    ),
    "families": (
        "All families",
        "Every kind of model that there is here, with the settings of its block in params.yaml, in one seed. One "
        "seed tells no difference from chance: this shows what each kind is like, and no verdict is drawn.",
    ),
}


def main() -> None:
    """Go on where an earlier call was stopped, and publish what came out.

    Raises:
        UserError: there are no such settings, or params.yaml is not in order.
    """
    if NAME not in WORDS:
        raise UserError(f"found {NAME}, {allowed(NAME, WORDS)}")
    numerics.limit(config.read_numerics(ROOT.params))
    from aebench.training.settings import read_params

    read_params(ROOT.params, ROOT.datasets)
    copies.make(COPY.root, params())
    copies.share(COPY.root)
    if not copies.repro(COPY.root):
        sys.exit(1)
    publish()
    print(f"\nSee {PUBLISHED}, and {COPY.page} with all pictures")


def params() -> str:
    """params.yaml with the blocks of the settings in the place of its own."""
    ours, changes = yaml.read(ROOT.params), yaml.read(SETTINGS)
    assert isinstance(ours, dict)
    assert isinstance(changes, dict)
    return copies.dumped(ours | changes, f"make {NAME}")


def publish() -> None:
    """Copy the comparison, and say how each run ended and where all of it was made.

    Raises:
        UserError: a result is missing or damaged, or the folder cannot be written.
    """
    from aebench.reporting import results
    from aebench.tracking.facts import of_system
    from aebench.training.settings import read_params

    settings = read_params(COPY.params, COPY.datasets)
    ended = endings(results.load(settings, COPY))
    empty(PUBLISHED)
    forms = [COPY.comparison(form) for form in ("md", "csv", "wide.csv")]
    several = len(settings.seeds) > 1  # one seed has no verdicts
    for path in (*forms, *[COPY.pairs] * several, COPY.summary, COPY.params):
        write(PUBLISHED / path.name, path.read_bytes())
    write(PUBLISHED / "endings.csv", ended.to_csv(index=False, lineterminator="\n"))
    system = of_system()
    training = "\n".join(
        f"| `{name}` | {'none' if value is None else value} |" for name, value in settings.training.model_dump().items()
    )
    write(
        PUBLISHED / "README.md",
        README.format(
            **dict(zip(("title", "lead"), WORDS[NAME], strict=True)),
            name=NAME,
            variants=listed(f"`{variant}`" for variant in settings.variants),
            datasets=listed(f"`{dataset}`" for dataset in settings.datasets),
            seeds="one seed" if len(settings.seeds) == 1 else f"{len(settings.seeds)} seeds",
            training=training,
            runs=endings_in_words(ended, settings.training.epochs),
            cpu=system["system.cpu"],
            torch=system["system.torch"],
            numerics=settings.numerics,
            tables="the tables, the verdicts and the cautions" if several else "the tables and the cautions",
            pairs="- [pairs.csv](pairs.csv): the differences between variants.\n" if several else "",
        ),
    )


def listed(words: "Iterable[str]") -> str:
    """Words in a sentence."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def endings(results: "Results") -> "pd.DataFrame":
    """A row a run: how many epochs it took, which were kept, and the losses of both."""
    import pandas as pd

    rows = []
    for cell in results.cells:
        for seed in cell.seeds:
            history, selected = cell.history(seed), cell.metrics["protocol"]["selected_epoch"][str(seed)]
            losses = [name for name in ("train_loss", "validation_loss") if name in history]
            rows.append(
                {
                    **{"dataset": cell.dataset, "variant": cell.variant, "seed": seed},
                    **{"epochs": len(history["epoch"]), "selected_epoch": selected},
                    **{f"last_{name}": history[name][-1] for name in losses},
                    **{f"selected_{name}": history[name][selected - 1] for name in losses},
                }
            )
    return pd.DataFrame(rows)


def endings_in_words(ended: "pd.DataFrame", most: int) -> str:
    """How many runs ended before their last epoch, and after how many epochs."""
    early, epochs = int((ended["epochs"] < most).sum()), ended["epochs"]
    if early == 0:
        return f"All {len(ended)} runs were trained for {most} epochs."
    return f"Of {len(ended)} runs, {early} were ended by their patience, after {epochs.min()} to {epochs.max()} epochs."


README = """\
# {title}

{lead}
Compared are {variants}, on {datasets}, in {seeds}. `make {name}` made this folder, and makes it anew.
[params.yaml](params.yaml) has all settings. Those of the training were:

| `training` | |
| --- | --- |
{training}

{runs} [endings.csv](endings.csv) has the epochs and the losses of each.

- [comparison.md](comparison.md): {tables}.
- [comparison.csv](comparison.csv), [comparison.wide.csv](comparison.wide.csv): every metric with its intervals.
{pairs}- [summary.json](summary.json): the means alone.

Made on: {cpu}, torch {torch}, `numerics: {numerics}`.
"""


if __name__ == "__main__":
    copies.finish(main)
