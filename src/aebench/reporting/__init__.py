"""From metrics to tables, figures and a page."""

from aebench.extras import require

require(__name__, "jinja2", "matplotlib", "pandas")
