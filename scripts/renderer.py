"""What draws DVC's plots, put into .aebench/, so that the page of `dvc plots show` needs no network."""

from pathlib import Path

import vl_convert

TARGET = Path(__file__).resolve().parents[1] / ".aebench" / "vega.js"


def main() -> None:
    """Write Vega, Vega-Lite and Vega-Embed in one file, for the Vega-Lite of the templates in .dvc/plots."""
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(
        vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version="5.21"), encoding="utf-8"
    )


if __name__ == "__main__":
    main()
