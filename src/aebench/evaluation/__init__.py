"""From a trained run to its metrics."""

from aebench.extras import require

require(__name__, "arviz_stats", "scipy", "sklearn")
