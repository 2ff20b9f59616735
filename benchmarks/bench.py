"""`make bench`: how fast training, the importance-weighted estimate and the pipeline are.

Beside them stand the obvious way to do the same, and what the hardware allows. Every figure is the median of several
measurements in one run of this script, with their smallest and largest; machines are noisy, so compare the ratios.
Prints a table and writes benchmarks/results.json.
"""

import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

import copies

ROOT = copies.ROOT
# Those that may be used, where the system says; elsewhere those that there are.
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
# Those of numerics, and between them what native is where a CPU has nothing beyond AVX2.
SETTINGS = {"native": "native", "avx2": "native, AVX2 alone", "portable": "portable"}
NUMERICS = ("native", "portable")
COMPUTED = {
    "training: an article's loop, seconds an epoch": "article_training",
    "training: one run on one core": "project_training",
    "training: a run on every core, per run": "project_training_all_cores",
    "training: its matrix products alone": "products_of_training",
    "estimate: an article's loop, seconds an image": "article_estimate",
    "estimate: on all cores, per image": "project_estimate",
    "estimate: the decoder's products alone": "products_of_estimate",
}
STAGES = (("check",), ("train", "digits", "vae"), ("evaluate", "digits", "vae"), ("baseline", "digits"), ("report",))
# The memory of so many images' estimates at so large a K: it should depend on neither.
MEMORY = {"K = 1000, 10 images": (10, 1000), "K = 50000, 10 images": (10, 50000), "K = 1000, 100 images": (100, 1000)}
REPEATS = 3


def summary(values: list[float]) -> dict[str, float]:
    """Median, smallest and largest."""
    return {"median": statistics.median(values), "smallest": min(values), "largest": max(values)}


def measured(what: str, setting: str, *arguments: int) -> list[float]:
    """The measurement `what` of measure.py: seconds of each repeat, or MB of memory; ends the script if it fails."""
    command = [sys.executable, str(ROOT / "benchmarks" / "measure.py"), what, setting, *map(str, arguments)]
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "268435456", "MALLOC_TRIM_THRESHOLD_": "268435456"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        sys.exit(f"{what}: {done.stderr.strip().splitlines()[-1]}")
    seconds: list[float] = json.loads(done.stdout)
    return seconds


class Copy:
    """A scratch copy of the project, to run its pipeline in."""

    def __init__(self, root: Path) -> None:
        self.root = root
        copies.make(root, "")
        (root / "data").mkdir()
        (root / "data" / "fashion_mnist.safetensors").symlink_to(ROOT / "data" / "fashion_mnist.safetensors")

    def write_params(
        self, *, dataset: str, numerics: str, seeds: int, hidden: int, batch_size: int, samples: int
    ) -> None:
        """The demo's variants, trained for an epoch and evaluated with next to nothing but `samples` samples."""
        from aebench import yaml

        demo = yaml.read(ROOT / "settings" / "demo.yaml")
        assert isinstance(demo, dict)
        changes = {
            "datasets": [dataset],
            "seeds": list(range(seeds)),
            "numerics": numerics,
            "network": {"hidden": [hidden], "latent_dim": 2},
            "training": {"epochs": 1, "batch_size": batch_size, "learning_rate": 1e-3, "select": "last"},
            "evaluation": {
                **{"importance_samples": samples, "expost": {"images": 0, "importance_samples": 1}},
                **{"corruption": "masking", "corruption_rate": 0.3},
            },
        }
        (self.root / "params.yaml").write_text(copies.dumped(demo | changes, "make bench"))

    def call(self, *command: str) -> float:
        """The seconds that a command takes in the copy; ends the script if it fails."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("DVC", "MLFLOW"))}
        started = time.perf_counter()
        done = subprocess.run(command, cwd=self.root, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{' '.join(command)}: {(done.stderr or done.stdout).strip().splitlines()[-1]}")
        return time.perf_counter() - started

    def stage(self, name: str, *item: str) -> float:
        """The seconds that a stage takes to do all of its work: what is kept from before would save it some."""
        shutil.rmtree(self.root / ".aebench" / "store", ignore_errors=True)
        (self.root / ".aebench" / "seen").unlink(missing_ok=True)
        return self.call(sys.executable, f"stages/{name}.py", *item)


def pipeline(numerics: str) -> dict[str, list[float]]:
    """Stages with next to nothing to compute, and `dvc repro` with nothing to do, on the digits."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Copy(Path(folder))
        copy.write_params(dataset="digits", numerics=numerics, seeds=1, hidden=8, batch_size=1024, samples=1)
        copy.call("dvc", "repro")
        seconds = {"pipeline: dvc repro with nothing to do": [copy.call("dvc", "repro") for _ in range(REPEATS)]}
        for stage, *item in STAGES:
            name = f"pipeline: the stage {stage} with next to nothing to do"
            seconds[name] = [copy.stage(stage, *item) for _ in range(REPEATS)]
        return seconds


def growth(numerics: str) -> dict[str, float]:
    """How the stages' times grow with the seeds and with K: a VAE on Fashion-MNIST, one epoch."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Copy(Path(folder))
        data = "fashion_mnist"

        def seconds(stage: str, seeds: int, samples: int) -> float:
            copy.write_params(dataset=data, numerics=numerics, seeds=seeds, hidden=256, batch_size=64, samples=samples)
            return copy.stage(stage, data, "vae")

        four, twelve = (seconds("train", seeds, 1) for seeds in (4, 12))
        once, twice = (seconds("evaluate", CORES, samples) for samples in (500, 1000))
    return {"training 12 seeds / 4 seeds": twelve / four, "evaluating with K = 1000 / K = 500": twice / once}


def last_repro() -> dict[str, float] | None:
    """Of the last `make repro`: its wall time, all stages included, over the computations of its jobs.

    None where it did not compute every cell of the benchmark from the beginning; one that did not come to its end does
    not count.
    """
    note = ROOT / ".aebench" / "repro"
    if not note.exists():
        return None
    begun, ended = map(int, note.read_text().split())
    records = [json.loads(path.read_text()) for path in (ROOT / ".aebench" / "timing").glob("*.json")]
    its_own = [record for record in records if begun <= record["started_at"] and record["ended_at"] <= ended]
    cells, datasets = (len(list((ROOT / "reports").glob(names))) for names in ("metrics/*/*.json", "baselines/*.json"))
    # Cells are trained and evaluated, data sets have baselines; what took a known result has left no record.
    if len(its_own) != 2 * cells + datasets:
        return None
    computed, wall = sum(sum(record["seconds"].values()) for record in its_own), ended - begun
    return {"wall_seconds": wall, "computed_seconds": computed, "ratio": wall / (computed / CORES)}


def machine() -> dict[str, Any]:
    """What was measured on."""
    from aebench.tracking.facts import of_system

    cpu = of_system()["system.cpu"]
    versions = {name: version(name) for name in ("torch", "numpy", "scikit-learn", "dvc")}
    return {"cpu": cpu, "cores": CORES, "system": platform.system(), "python": platform.python_version(), **versions}


def ratios(medians: dict[str, float]) -> dict[str, float]:
    """How the medians, in seconds by the names of `COMPUTED`, relate to each other."""
    names = list(COMPUTED)
    article, _, all_cores, products = (medians[name] for name in names[:4])
    article_estimate, estimate, estimate_products = (medians[name] for name in names[4:])
    return {
        "training: article's loop / a run on every core": article / all_cores,
        "training: a run on every core / its products": all_cores / products,
        "estimate: article's loop / ours": article_estimate / estimate,
        "estimate: its products / ours": estimate_products / estimate,
    }


def cost_of_portable(seconds: dict[str, dict[str, dict[str, float]]]) -> dict[str, float]:
    """How many times as long as on `avx2` portable takes, by the measurements of this project in `seconds`."""
    ours = [name for name, what in COMPUTED.items() if what.startswith("project")]
    return {name: seconds["portable"][name]["median"] / seconds["avx2"][name]["median"] for name in ours}


def table(results: dict[str, Any]) -> str:
    """The results in Markdown."""
    columns = [results["settings"][setting] for setting in SETTINGS]
    lines = [f"| | {' | '.join(SETTINGS.values())} |", "| --- " * (1 + len(SETTINGS)) + "|"]

    def add(name: str, kind: str, shown: Callable[[Any], str]) -> None:
        cells = [column[kind].get(name) for column in columns]
        lines.append(_row(name, ["" if cell is None else shown(cell) for cell in cells]))

    for name in columns[0]["seconds"]:
        add(name, "seconds", lambda cell: f"{_time(cell['median'])} ({_spread(cell)})")
    for name in columns[0]["ratios"]:
        add(name, "ratios", lambda ratio: f"**{ratio:.2f}**")
    for name in columns[0]["memory_of_estimate_mb"]:
        add(name, "memory_of_estimate_mb", _megabytes)
    for name, value in results["cost_of_portable"].items():
        lines.append(_row(f"**portable / native, AVX2 alone: {name.split(',')[0]}**", ["", "", f"**{value:.2f}**"]))
    for name, value in results["growth"].items():
        lines.append(_row(name, ["", "", f"{value:.2f}"]))
    if last := results["last_make_repro"]:
        name, minutes = "make repro: whole wall time / (computations / cores)", f"{last['wall_seconds'] / 60:.1f} min"
        lines.append(_row(name, ["", "", f"{last['ratio']:.2f} ({minutes})"]))
    return "\n".join(lines)


def _megabytes(cell: dict[str, float]) -> str:
    return f"{cell['median']:.0f} MB ({cell['smallest']:.0f} to {cell['largest']:.0f})"


def _row(name: str, cells: list[str]) -> str:
    return f"| {' | '.join((name, *cells))} |"


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 0.1 else f"{1e3 * seconds:.2f} ms"


def _spread(cell: dict[str, float]) -> str:
    """How far the smallest and the largest measurement lie from the median."""
    low, high = (100 * (cell[end] / cell["median"] - 1) for end in ("smallest", "largest"))
    return f"{low:+.0f} to {high:+.0f} %"


def main() -> None:
    """Measure, print, write."""
    times: dict[str, dict[str, list[float]]] = {setting: {} for setting in SETTINGS}
    for name, what in COMPUTED.items():
        for setting in SETTINGS:  # one after the other, since machines are noisy
            times[setting][name] = measured(what, setting)
    for numerics in NUMERICS:
        times[numerics] |= pipeline(numerics)
    seconds = {
        setting: {name: summary(values) for name, values in measured_times.items()}
        for setting, measured_times in times.items()
    }
    memory = {
        numerics: {
            f"memory of the estimate, {name}": summary(
                [mb for _ in range(REPEATS) for mb in measured("memory_of_estimate", numerics, *arguments)]
            )
            for name, arguments in MEMORY.items()
        }
        for numerics in NUMERICS
    }
    results: dict[str, Any] = {
        "machine": machine(),
        "settings": {
            setting: {
                "seconds": seconds[setting],
                "ratios": ratios({name: values["median"] for name, values in seconds[setting].items()}),
                "memory_of_estimate_mb": memory.get(setting, {}),
            }
            for setting in SETTINGS
        },
        "cost_of_portable": cost_of_portable(seconds),
        "growth": growth("portable"),
        "last_make_repro": last_repro(),
    }
    (ROOT / "benchmarks" / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    print(f"{results['machine']['cpu']}, {CORES} cores\n\n{table(results)}")


if __name__ == "__main__":
    main()
