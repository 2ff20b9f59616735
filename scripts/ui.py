"""MLflow's UI over the project's store, on this machine's own address only."""

import os
import sys

import copies

from aebench.paths import Layout
from aebench.tracking.address import refusal, tracking_uri, without_password


def main(port: str) -> None:
    """Become `mlflow server`; a store that MLFLOW_TRACKING_URI names on another machine has a UI of its own."""
    store = tracking_uri(Layout(copies.ROOT))
    if reason := refusal(store):
        sys.exit(f"MLFLOW_TRACKING_URI is {without_password(store, store)}: {reason}")
    if store.startswith(("http:", "https:")):
        sys.exit(f"MLFLOW_TRACKING_URI names a server; its UI is at {without_password(store, store)}")
    # MLflow opens on its views for language models unless the address asks for those of training runs.
    page = f"http://127.0.0.1:{port}/#/experiments?workflowType=machine_learning"
    print(f"MLflow's UI: {page} (Ctrl-C ends it)", file=sys.stderr)
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # what evaluates language models
    os.environ["MLFLOW_BACKEND_STORE_URI"] = store  # everybody may read a command line, and it may hold a password
    os.execvp("mlflow", ["mlflow", "server", "--host", "127.0.0.1", "--port", port, "--workers", "1"])


if __name__ == "__main__":
    main(*sys.argv[1:])
