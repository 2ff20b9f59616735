"""The keys by which a store knows runs: hashes of results and of what produced them."""

import hashlib

KEY = "aebench.key"
"""The tag that holds a run's key."""


def sha256(*parts: bytes) -> str:
    """One hash for several pieces, whose borders count."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()
