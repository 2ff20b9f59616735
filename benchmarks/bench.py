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

ROOT = Path(__file__).resolve().parents[1]
CORES = len(os.sched_getaffinity(0))
SETTINGS = ("native", "portable")
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
REPEATS = 3
PARAMS = """\
datasets: [digits]
variants: [ae, dae, vae, cvae, cvae_concat]
seeds: [0]
numerics: NUMERICS
data: {validation_fraction: 0.1}
network: {hidden: [8], latent_dim: 2}
training: {epochs: 1, batch_size: 1024, learning_rate: 1.0e-3, select: last}
models:
  ae: {kind: ae}
  dae: {kind: dae, corruption: masking, corruption_rate: 0.3}
  vae: {kind: vae}
  cvae: {kind: cvae}
  cvae_concat: {kind: cvae, conditioning: concat}
evaluation:
  importance_samples: 1
  expost: {images: 0, importance_samples: 1}
  corruption: masking
  corruption_rate: 0.3
execution: {workers: auto, source_dir: null}
tracking: {experiment: bench}
"""


def summary(values: list[float]) -> dict[str, float]:
    """Median, smallest and largest."""
    return {"median": statistics.median(values), "smallest": min(values), "largest": max(values)}


def measured(what: str, numerics: str) -> list[float]:
    """The measurement `what` of measure.py."""
    command = [sys.executable, str(ROOT / "benchmarks" / "measure.py"), what, numerics]
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "268435456", "MALLOC_TRIM_THRESHOLD_": "268435456"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        sys.exit(f"{what}: {done.stderr.strip().splitlines()[-1]}")
    found: list[float] = json.loads(done.stdout)
    return found


def pipeline(numerics: str) -> dict[str, list[float]]:
    """Stages with next to nothing to compute, and `dvc repro` with nothing to do, in a scratch copy on the digits."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        shutil.copyfile(ROOT / "dvc.yaml", root / "dvc.yaml")
        shutil.copyfile(ROOT / ".dvcignore", root / ".dvcignore")
        for name in ("stages", "src"):
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        (root / "params.yaml").write_text(PARAMS.replace("NUMERICS", numerics))
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("DVC", "MLFLOW"))}

        def call(*command: str) -> None:
            subprocess.run(command, cwd=root, env=environment, capture_output=True, check=True)

        def times(*command: str) -> list[float]:
            return [_seconds(lambda: call(*command)) for _ in range(REPEATS)]

        call("dvc", "init", "--quiet", "--no-scm")
        call("dvc", "repro")
        found = {"pipeline: dvc repro with nothing to do": times("dvc", "repro")}
        for stage, *item in STAGES:
            name = f"pipeline: the stage {stage} with next to nothing to do"
            found[name] = times(sys.executable, f"stages/{stage}.py", *item)
        return found


def _seconds(call: Callable[[], None]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def machine() -> dict[str, Any]:
    """What was measured on."""
    cpu = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
        cpu = names[0] if names else cpu
    versions = {name: version(name) for name in ("torch", "numpy", "scikit-learn", "dvc")}
    return {"cpu": cpu, "cores": CORES, "system": platform.system(), "python": platform.python_version(), **versions}


def ratios(medians: dict[str, float]) -> dict[str, float]:
    """What the figures come to."""
    names = list(COMPUTED)
    article, _, all_cores, products = (medians[name] for name in names[:4])
    article_estimate, estimate, estimate_products = (medians[name] for name in names[4:])
    return {
        "training: article's loop / a run on every core": article / all_cores,
        "training: a run on every core / its products": all_cores / products,
        "estimate: article's loop / ours": article_estimate / estimate,
        "estimate: its products / ours": estimate_products / estimate,
    }


def main() -> None:
    """Measure, print, write."""
    results: dict[str, Any] = {"machine": machine(), "numerics": {}}
    for numerics in SETTINGS:
        times = {name: measured(what, numerics) for name, what in COMPUTED.items()} | pipeline(numerics)
        summaries = {name: summary(values) for name, values in times.items()}
        medians = {name: values["median"] for name, values in summaries.items()}
        memory = measured("memory_of_estimate", numerics)
        results["numerics"][numerics] = {
            "seconds": summaries,
            "ratios": ratios(medians),
            "memory_of_estimate_mb": {"K = 1000": memory[0], "K = 50000": memory[1]},
        }
        print(f"\n{numerics}\n")
        for name, values in summaries.items():
            print(f"{name:56s} {values['median']:9.5g} s  ({values['smallest']:.4g} to {values['largest']:.4g})")
        for name, value in results["numerics"][numerics]["ratios"].items():
            print(f"{name:56s} {value:9.2f}")
        print(
            f"{'memory of the estimate at K = 1000 and 50000':56s} {memory[0]:9.1f} and {memory[1]:.1f} MB", flush=True
        )
    (ROOT / "benchmarks" / "results.json").write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
