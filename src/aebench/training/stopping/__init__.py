"""What ends training early: every file here is a rule, and its name is the `stopping` of params.yaml under `training`.

A file holds `Config`, an `aebench.config.StoppingConfig` with the rule's own settings (and `EXAMPLE`, values for those
that must be given). It says whether training ends, by the validation losses so far, and by nothing else: so a run that
is resumed ends where it would have ended.
"""

from aebench.config import StoppingConfig
from aebench.plugins import configurations


def stopping_rules() -> dict[str, type[StoppingConfig]]:
    """For every rule its configuration, the class named `Config` in its file."""
    return configurations(__name__, StoppingConfig)
