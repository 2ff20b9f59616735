"""From a trained run to its metrics."""
