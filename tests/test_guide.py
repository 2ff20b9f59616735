"""The walk through in docs/guide.md, run as it is written, with settings that take less time."""

import re
import sys
from pathlib import Path

import pytest
from checkout import Checkout, working_tree
from conftest import ROOT
from test_pipeline import PARAMS, runs_in

pytestmark = pytest.mark.slow

GUIDE = (ROOT / "docs" / "guide.md").read_text()
BLOCKS = re.findall(r"^```(sh|python)\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)


def test_the_guide_does_what_it_says(tmp_path: Path) -> None:
    clone = working_tree(tmp_path / "checkout")
    small = PARAMS
    for old, new in (
        ("seeds: [0, 1]", "seeds: [0]"),
        ("variants: [ae, vae, cvae, cvae_concat]", "variants: [vae]"),
        ("latent_dim: 4", "latent_dim: 5"),
        ("epochs: 2", "epochs: 1"),
        ("importance_samples: 97", "importance_samples: 10"),
        ("images: 30", "images: 0"),
    ):
        assert old in small
        small = small.replace(old, new)
    (clone.root / "settings" / "demo.yaml").write_text(small)
    clone.git("config", "user.name", "test")
    clone.git("config", "user.email", "test@localhost")
    clone.commit("code")
    assert len(BLOCKS) > 10
    said = ""
    for language, block in BLOCKS:
        program = ["sh", "-e", "-c"] if language == "sh" else [sys.executable, "-c"]
        done = clone.run(*program, block, PYTHONPATH=str(clone.root / "src"))
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        said += done.stdout
        if "queue start" in block:
            while re.search("Running|Queued", clone.run("dvc", "queue", "status").stdout):
                pass
    assert re.search(r"params.yaml +network.latent_dim +5 +4$", said, re.MULTILINE)
    assert re.search(r"reports/summary.json +digits.vae.elbo_nats ", said)
    assert "torch.Size([5, 5]) torch.Size([5, 64]) torch.Size([3, 5])" in said
    assert {"2.0", "4.0"} <= {run["params"].get("model.beta") for run in runs_in(clone)}  # type: ignore[attr-defined]
    theirs = Checkout(tmp_path / "theirs")
    ours, found = clone.snapshot(), theirs.snapshot()
    assert {name: ours[name] for name in ours if "stripes" not in name and "drawings" not in name} == found
