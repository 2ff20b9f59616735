"""The schedules: every file here is one, and its name is the `schedule` that params.yaml gives under `training`.

A file holds `Config`, an `aebench.config.ScheduleConfig` with the schedule's own settings (and `EXAMPLE`, values for
those that must be given). Its two methods say which share of the learning rate is left, by the steps that are done and
by the validation losses so far. They depend on what they are given alone, so that a run which is resumed goes on alike.
"""

from aebench.config import ScheduleConfig
from aebench.plugins import configurations


def schedules() -> dict[str, type[ScheduleConfig]]:
    """For every schedule its configuration, the class named `Config` in its file."""
    return configurations(__name__, ScheduleConfig)
