"""Runs to workers: processes side by side here, or a Dask cluster; one interface, `concurrent.futures`."""

from aebench.extras import require

require(__name__, "rich")
