"""Results to MLflow: a mirror of the files, written after the fact."""

from aebench.extras import require

require(__name__, "mlflow")
