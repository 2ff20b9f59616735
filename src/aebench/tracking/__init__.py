"""Results to MLflow: a mirror of the files, written after the fact."""
