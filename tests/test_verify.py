import importlib
from typing import Any

import pytest
from conftest import ROOT

COMMITTED = {
    "seeds": {"0": {"elbo_nats": -30.0, "probe_accuracy": 0.8}},
    "weights_sha256": {"0": "abc"},
    "summary": {"elbo_nats": {"mean": -30.0, "sd": 0.1}, "probe_accuracy": {"mean": 0.8}},
}


@pytest.fixture
def verify(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    monkeypatch.syspath_prepend(str(ROOT / "stages"))
    return importlib.import_module("verify")


@pytest.mark.parametrize(
    ("weights", "metrics", "words", "metric"),
    [
        ("abc", {"elbo_nats": -30.0, "probe_accuracy": 0.8}, "identical", ""),
        ("abd", {"elbo_nats": -30.0, "probe_accuracy": 0.8}, "within tolerance", "elbo_nats"),
        ("abd", {"elbo_nats": -30.39, "probe_accuracy": 0.801}, "within tolerance", "elbo_nats"),
        ("abd", {"elbo_nats": -30.41, "probe_accuracy": 0.8}, "different", "elbo_nats"),
        ("abd", {"elbo_nats": -30.0, "probe_accuracy": 0.791}, "different", "probe_accuracy"),
        ("abc", {"elbo_nats": -30.0}, "different", "probe_accuracy"),
    ],
)
def test_what_differs_and_by_how_much(
    verify: Any, weights: str, metrics: dict[str, float], words: str, metric: str
) -> None:
    found = verify.compare(COMMITTED, 0, weights, metrics)
    assert (found.words, found.metric) == (words, metric)


def test_the_likely_cause_is_named(verify: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "numerics: native" in verify.likely_cause("native")
    monkeypatch.setattr(verify, "version", lambda package: "1.0")
    assert verify.likely_cause("portable").startswith("another version of torch: 1.0 here")
