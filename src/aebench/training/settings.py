"""params.yaml, checked against all that there is: variants, networks, likelihoods, optimisers, data sets."""

from collections.abc import Iterable
from pathlib import Path

from aebench import config, variants
from aebench.data.datasets import facts
from aebench.models.likelihoods import likelihoods
from aebench.models.networks import architectures
from aebench.training.optimizers import optimizers


def read_params(path: Path, folders: Iterable[Path] = ()) -> config.Params:
    """Read and check the file; the user's own data sets lie in `folders`.

    Raises:
        ConfigError: one line with the key, what was found and what is allowed.
        DataError: two data sets have one name.
    """
    return config.read(
        path,
        kinds=variants.kinds(),
        architectures=architectures(),
        optimizers=optimizers(),
        likelihoods=likelihoods(),
        datasets=facts(folders),
    )
