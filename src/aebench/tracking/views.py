"""Views of an experiment that MLflow's UI offers under "Views": made ready, so that nobody has to pick columns.

The UI keeps a saved view as a tag of the experiment: JSON with a name and a compressed state. A version of MLflow that
reads it otherwise ignores it.
"""

import base64
import json
import zlib
from collections.abc import Collection
from typing import Any

from aebench.evaluation.metrics import main_metrics

PREFIX = "mlflow.sharedViewState."
_CURRENT = "tags.`aebench.superseded` = 'false' and tags.`aebench.role` = "
_CURVES = ("validation_reconstruction_mse", "validation_loss", "train_loss")


def tags(measured: Collection[str]) -> dict[str, str]:
    """The tags of an experiment that hold its views, by name; `measured` are the metrics that all its variants have."""
    plain = {"lineSmoothness": 0, "useGlobalLineSmoothing": False, "displayPoints": False}
    lines = [_chart("LINE", name, metricKey=name, selectedMetricKeys=[name], **plain) for name in _CURVES]
    parallel = {
        "selectedParams": ["variant"],
        "selectedMetrics": axes(measured),
        "showAllRuns": True,
    }
    return {
        **_view("aebench-variants", "Variants", _state("variant", [])),
        **_view("aebench-seeds", "Seeds", _state("seed", [])),
        **_view("aebench-parallel", "Parallel coordinates", _state("seed", [_chart("PARALLEL", "seeds", **parallel)])),
        **_view("aebench-curves", "Curves", _state("seed", lines)),
    }


def axes(measured: Collection[str]) -> list[str]:
    """Of the metrics that all variants have, those that tell which is better; a chart wants its axes of every run."""
    return [name for name in _compared() if name in measured]


def _compared() -> list[str]:
    """The metrics of the main table that tell which variant is better."""
    return [name for name, metric in main_metrics().items() if metric.compared]


def _view(key: str, name: str, state: dict[str, Any]) -> dict[str, str]:
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    view = {"name": name, "createdAt": 0, "updatedAt": 0, "state": f"deflate;{packed}"}
    return {f"{PREFIX}{key}": json.dumps(view)}


def _state(role: str, charts: list[dict[str, Any]]) -> dict[str, Any]:
    """Which runs, columns and charts are shown; the keys are the UI's."""
    columns = ["params.`variant`", *(f"metrics.`{name}`" for name in _compared())]
    section = {"uuid": "aebench", "name": "aebench", "display": True, "isReordered": False, "deleted": False}
    section |= {"isGenerated": False, "columns": 1, "cardHeight": 480}
    return {
        "searchFilter": f"{_CURRENT}'{role}'",
        "orderByKey": "params.`variant`",
        "orderByAsc": True,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
        "columnOrder": [],
        "columnWidths": {},
        "runsHiddenMode": "SHOWALL",
        "compareRunCharts": charts,
        "compareRunSections": [section],
        "viewMaximized": False,
        "runListHidden": False,
        "isAccordionReordered": False,
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "groupBy": None,
        "groupsExpanded": {},
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
    }


def _chart(kind: str, name: str, **settings: Any) -> dict[str, Any]:
    return {
        "uuid": f"aebench-{name}",
        "type": kind,
        "runsCountToCompare": 100,
        "metricSectionId": "aebench",
        "deleted": False,
        "isGenerated": False,
        "displayName": name,
        **settings,
    }
