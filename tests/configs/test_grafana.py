"""The dashboard: loaded, and every panel held against the daemon's metrics and the grid."""

import itertools
import json
import re
from typing import Any

import pytest

from tests.configs.conftest import CONFIGS, Exported

COLUMNS = 24  # of Grafana's grid
DASHBOARD: dict[str, Any] = json.loads(
    (CONFIGS / "grafana" / "dashboard.json").read_text(encoding="utf-8")
)
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
ANY_PROMETHEUS = {"type": "prometheus", "uid": "${datasource}"}

by_title = pytest.mark.parametrize("panel", PANELS, ids=lambda panel: f"{panel['id']}")


def cells(panel: dict[str, Any]) -> set[tuple[int, int]]:
    """Return the cells of the grid that a panel covers."""
    at = panel["gridPos"]
    columns, rows = range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])
    return set(itertools.product(columns, rows))


def test_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    ids = [panel["id"] for panel in PANELS]
    assert len(set(ids)) == len(ids) > 15
    covered: set[tuple[int, int]] = set()
    for panel in PANELS:
        mine = cells(panel)
        assert mine
        assert not mine & covered, panel["title"]
        assert all(0 <= x < COLUMNS for x, _ in mine), panel["title"]
        covered |= mine
    rows = max(y for _, y in covered) + 1
    assert len(covered) == COLUMNS * rows  # and there are no holes


@by_title
async def test_a_panel_reads_what_the_daemon_exports(
    panel: dict[str, Any], exported: Exported
) -> None:
    assert panel["title"]
    assert len(panel["description"]) > 10
    assert panel["datasource"] == ANY_PROMETHEUS
    references = [target["refId"] for target in panel["targets"]]
    assert len(set(references)) == len(references) > 0
    for target in panel["targets"]:
        assert target["datasource"] == ANY_PROMETHEUS
        exported.check(target["expr"])
        assert 'instance=~"$instance"' in target["expr"]


async def test_starts_are_marked_by_a_metric_that_there_is(exported: Exported) -> None:
    (starts,) = DASHBOARD["annotations"]["list"]
    exported.check(starts["expr"])


def test_every_variable_is_defined_and_used() -> None:
    defined = {one["name"]: one for one in DASHBOARD["templating"]["list"]}
    text = json.dumps(PANELS)
    used = set(re.findall(r"\$\{?([a-z]\w*)", text))
    assert used == defined.keys() == {"datasource", "instance"}
    assert (defined["datasource"]["type"], defined["datasource"]["query"]) == (
        "datasource",
        "prometheus",
    )
    assert "uid" not in json.dumps(PANELS).replace('"uid": "${datasource}"', "")
