"""A variant's best run as a registered MLflow model: the code that it needs, safetensors and JSON."""

import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

import mlflow.pyfunc
import numpy as np
from mlflow.entities import LoggedModelOutput
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from numpy.typing import NDArray

import aebench
from aebench.fingerprint import closure
from aebench.paths import CONFIG, WEIGHTS, Layout
from aebench.tracking import pyfunc_model
from aebench.tracking.keys import KEY
from aebench.tracking.runs import SeedRun
from aebench.tracking.timeouts import TimeoutProxy

_SOURCE = Path(aebench.__file__).resolve().parents[1]
_REQUIREMENTS = ("torch", "numpy", "safetensors", "pydantic")
CURRENT = "current"  # the alias of the version that belongs to the results as they are now
_EXAMPLES = 3


def code() -> list[Path]:
    """The files of this package that a served model needs: all variants and models, and what they import."""
    package = _SOURCE / "aebench"
    chosen_by_name = [path for room in ("variants", "models") for path in package.glob(f"{room}/**/*.py")]
    modules = [".".join(path.relative_to(_SOURCE).with_suffix("").parts) for path in chosen_by_name]
    imported = closure(Layout(_SOURCE.parent), pyfunc_model.__name__, *modules)
    return sorted({package / "__init__.py", *imported} - {Path(pyfunc_model.__file__)})  # that one MLflow copies itself


def save(folder: Path, target: Path, example: NDArray[np.float32], of: Model | None = None) -> None:
    """Write a run as an MLflow model.

    Args:
        folder: the run's.
        target: the folder that is made.
        example: images `[B, D]` that show what goes in.
        of: what MLflow is to note of the model besides.
    """
    with tempfile.TemporaryDirectory() as scratch:
        for source in code():
            copy = Path(scratch) / source.relative_to(_SOURCE)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)
        for name in (WEIGHTS, CONFIG):  # copies: in place they may be links into DVC's cache, which MLflow refuses
            shutil.copyfile(folder / name, Path(scratch) / name)
        mlflow.pyfunc.save_model(
            target,
            python_model=pyfunc_model.__file__,
            artifacts={"weights": str(Path(scratch) / WEIGHTS), "config": str(Path(scratch) / CONFIG)},
            code_paths=[str(Path(scratch) / "aebench")],
            signature=pyfunc_model.signature(example.shape[1]),
            input_example=example,
            pip_requirements=[f"{name}=={version(name).split('+')[0]}" for name in _REQUIREMENTS],
            mlflow_model=of,
        )


def register(client: TimeoutProxy, experiment_id: str, run_id: str, run: SeedRun, name: str, *, current: bool) -> None:
    """Log `run` as a model and register it, once.

    A version gets its key as it is made, so one without this run's key is another's.

    Args:
        client: of the store.
        experiment_id: of the run's experiment.
        run_id: the run's in the store.
        run: what is logged.
        name: of the registered model.
        current: whether `CURRENT` is to name its version.

    Raises:
        DataError: the run's evaluation is missing or damaged.
    """
    try:
        model = client.get_registered_model(name)
        versions = client.search_model_versions(f"name='{name}'")
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":  # a silent server's is not to be asked the next thing
            raise
        model = client.create_registered_model(name, description=run.description())
        versions = []
    version = next((each for each in versions if (each.run_id, each.tags.get(KEY)) == (run_id, run.key)), None)
    if version and not _is_whole(client, version):
        client.delete_model_version(name, version.version)
        version = None
    if version is None:
        for broken_off in client.search_logged_models([experiment_id], f"source_run_id = '{run_id}'"):
            client.delete_logged_model(broken_off.model_id)
        uri, model_id = _log(client, experiment_id, run_id, run, name)
        tags = {KEY: run.key, "aebench.seed": str(run.seed)}
        version = client.create_model_version(name, uri, run_id, tags=tags, model_id=model_id)
    if current and str(model.aliases.get(CURRENT)) != str(version.version):
        client.set_registered_model_alias(name, CURRENT, version.version)


def _is_whole(client: TimeoutProxy, version: ModelVersion) -> bool:
    """Whether the files of a version's model are there, as far as their top folder shows."""
    try:
        files = client.list_logged_model_artifacts(version.source.removeprefix("models:/"))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False
    return {"MLmodel", "artifacts", "code"} <= {file.path for file in files}


def _log(client: TimeoutProxy, experiment_id: str, run_id: str, run: SeedRun, name: str) -> tuple[str, str]:
    """The address of the logged model's files, and its id."""
    logged = client.create_logged_model(experiment_id, name, run_id, tags={KEY: run.key}, model_type="autoencoder")
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    originals = run.arrays(["originals"])["originals"][:_EXAMPLES]
    example = originals.reshape(len(originals), -1).astype(np.float32)  # one a class, so perhaps fewer
    with tempfile.TemporaryDirectory() as scratch:
        note = Model(model_uuid=logged.model_id, run_id=run_id, model_id=logged.model_id)
        folder = Path(scratch) / "model"
        save(run.folder, folder, example, note)
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):  # each is an answer to wait for
            below = path.relative_to(folder).parent
            client.log_model_artifact(logged.model_id, str(path), below.as_posix() if below.parts else None)
    client.finalize_logged_model(logged.model_id, "READY")
    return f"models:/{logged.model_id}", logged.model_id
