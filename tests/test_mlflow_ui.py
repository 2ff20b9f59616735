"""MLflow's UI over small results, in a real browser: tables filled, nothing broken, nothing asked of other machines."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from devtools import Page, browser, page, text_is
from mlflow import MlflowClient
from mlflow_ui import CLOSE, show
from results import Results
from servers import mlflow_server

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(browser() is None, reason="no chromium and no google-chrome is installed"),
]
# What MLflow's own pages complain of wherever nobody logs in, and a notice that browsers give without harm.
KNOWN = ("/users/current", "ResizeObserver loop")


@pytest.fixture(scope="module")
def synced(results: Results, tmp_path_factory: pytest.TempPathFactory) -> Results:
    copy = results.copy(tmp_path_factory.mktemp("ui") / "checkout")
    copy.track()
    return copy


@pytest.fixture(scope="module")
def server(synced: Results, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("server")
    with mlflow_server(folder, synced.environment(), "--backend-store-uri", synced.store) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def tab(server: str, tmp_path: Path) -> Iterator[Page]:
    with page(tmp_path) as tab:
        tab.size(1600, 1000)
        yield tab
        assert [error for error in tab.errors if not any(known in error for known in KNOWN)] == []
        assert tab.strangers == []
        assert len(tab.requests) > 10


def experiment(checkout: Results) -> str:
    return str(MlflowClient(checkout.store).get_experiment_by_name("aebench/digits").experiment_id)


def rows(tab: Page) -> list[str]:
    """The runs that the table lists."""
    names = tab.ask("[...document.querySelectorAll('.ag-center-cols-container a, .ag-pinned-left-cols-container a')]"
                    ".map((e) => e.innerText.trim()).filter((t) => /^c?vae|^ae/.test(t))")  # fmt: skip
    return sorted(names)


def test_the_table_of_variants_is_filled(tab: Page, server: str, synced: Results) -> None:
    show(tab, server, experiment(synced), "variants")
    tab.click(CLOSE)
    assert rows(tab) == ["ae", "cvae"]
    (cvae,) = synced.runs()["digits/cvae"]
    shown = tab.text()
    for name in ("reconstruction_mse", "probe_accuracy"):
        assert name in shown
        assert f"{cvae.data.metrics[name]:.6f}"[:6] in shown
    tab.click(text_is("Variants", "button"))
    tab.wait("/Saved views/i.test(document.body.innerText)")
    assert all(view in tab.text() for view in ("Variants", "Seeds", "Parallel coordinates", "Curves"))


def test_the_charts_show_every_seed(tab: Page, server: str, synced: Results) -> None:
    seeds = [f"{variant} seed {seed}" for variant in ("ae", "cvae") for seed in (0, 1)]
    show(tab, server, experiment(synced), "curves")
    tab.click(CLOSE)
    tab.wait("document.querySelectorAll('.scatterlayer .trace.scatter').length >= 12")  # three charts, four seeds
    assert rows(tab) == seeds
    show(tab, server, experiment(synced), "parallel")
    assert rows(tab) == seeds
    assert all(axis in tab.ask("document.documentElement.textContent") for axis in ("denoising_mse", "probe_accuracy"))


def test_a_runs_page_has_its_note_pictures_and_model(tab: Page, server: str, synced: Results) -> None:
    best = MlflowClient(synced.store).get_model_version_by_alias("aebench-digits-cvae", "current")
    address = f"{server}/#/experiments/{experiment(synced)}/runs/{best.run_id}"
    tab.open(address)
    tab.wait("/a VAE that learns from labels/.test(document.body.innerText)")
    tab.rest()
    shown = tab.text()
    assert "aebench-digits-cvae" in shown
    assert "validation_reconstruction_mse" in shown
    tab.open(f"{address}/artifacts/pictures/samples.png")
    tab.wait("[...document.images].some((e) => e.complete && e.naturalWidth > 50 && e.src.startsWith('blob:'))")
    listed = tab.text()
    for name in ("reconstructions.png", "traversal.png", "model.safetensors", "history.csv"):
        assert name in listed


def test_the_registry_lists_the_models(tab: Page, server: str, synced: Results) -> None:
    tab.open(f"{server}/#/models?workflowType=machine_learning")
    for variant in ("ae", "cvae"):
        tab.wait(f"document.body.innerText.includes('aebench-digits-{variant}')")
    assert "@ current" in " ".join(tab.text().split()).replace("@current", "@ current")
