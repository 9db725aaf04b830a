"""The scrape job and the alerts: loaded, and every name in them held against the daemon."""

import re
from typing import Any

import pytest
import yaml

from dhtmeta.const import HTTP_LISTEN
from tests.configs.conftest import BY_PROMETHEUS, CONFIGS, Exported
from tests.configs.promql import Selector, grouped_by, selectors

OPERATIONS = CONFIGS.parent / "docs" / "operations.md"
DURATION = re.compile(r"[1-9][0-9]*[smhd]")
FILTERS = {"humanize", "humanize1024", "humanizePercentage"}


def loaded(name: str) -> Any:
    return yaml.safe_load((CONFIGS / "prometheus" / name).read_text(encoding="utf-8"))


def alerts() -> list[dict[str, Any]]:
    (group,) = loaded("alerts.yml")["groups"]
    assert group.keys() == {"name", "rules"}
    rules: list[dict[str, Any]] = group["rules"]
    return rules


by_name = pytest.mark.parametrize("alert", alerts(), ids=lambda alert: str(alert["alert"]))


def test_the_scrape_job_goes_where_the_daemon_answers() -> None:
    (job,) = loaded("scrape.yml")["scrape_configs"]
    assert (job["job_name"], job["metrics_path"]) == ("dhtmeta", "/metrics")
    assert job["static_configs"] == [{"targets": [HTTP_LISTEN]}]
    assert DURATION.fullmatch(job["scrape_interval"])


@by_name
def test_an_alert_is_complete(alert: dict[str, Any]) -> None:
    assert alert.keys() - {"for"} == {"alert", "expr", "labels", "annotations"}
    assert re.fullmatch(r"Dhtmeta[A-Z][A-Za-z]+", alert["alert"])
    assert alert["labels"] in ({"severity": "critical"}, {"severity": "warning"})
    assert DURATION.fullmatch(alert.get("for", "1m"))
    said = alert["annotations"]
    assert said.keys() == {"summary", "description", "runbook"}
    assert len(said["summary"]) > 15
    assert len(said["description"]) > 30


@by_name
async def test_an_alert_reads_what_the_daemon_exports(
    alert: dict[str, Any], exported: Exported
) -> None:
    exported.check(alert["expr"])
    labels = {
        label
        for selector in selectors(alert["expr"])
        for label in exported.metrics.get(selector.metric, {})
    }
    for text in alert["annotations"].values():
        for template in re.findall(r"{{(.*?)}}", text):
            source, _, change = (part.strip() for part in template.partition("|"))
            assert not change or change in FILTERS, template
            known = {f"$labels.{label}" for label in labels | BY_PROMETHEUS} | {"$value"}
            assert source in known, template


def test_each_alert_has_its_section_and_each_section_its_alert() -> None:
    text = OPERATIONS.read_text(encoding="utf-8")
    names = [alert["alert"] for alert in alerts()]
    assert re.findall(r"^### (Dhtmeta\w+)$", text, re.MULTILINE) == names
    assert len(set(names)) == len(names)
    for alert in alerts():
        assert alert["annotations"]["runbook"] == f"docs/operations.md#{alert['alert'].lower()}"


def test_what_an_expression_reads_is_seen() -> None:
    text = 'sum by (a, b) (rate(x_total{c="d",e=~"f"}[5m])) / ignoring(g) y > 8e6 unless z == 1'
    assert selectors(text) == [
        Selector("x_total", (("c", "=", "d"), ("e", "=~", "f"))),
        Selector("y", ()),
        Selector("z", ()),
    ]
    assert grouped_by(text) == {"a", "b", "g"}
    for broken in ("rat(x[5m])", "rate(x[5m]", "x{"):
        with pytest.raises(AssertionError):
            selectors(broken)


async def test_what_is_not_exported_is_seen(exported: Exported) -> None:
    exported.check('sum by (result) (dhtmeta_looks_total{result="ok"})')
    for wrong in (
        "dhtmeta_looks",
        'dhtmeta_looks_total{state="ok"}',
        'dhtmeta_looks_total{result="fine"}',
        "sum by (state) (dhtmeta_looks_total)",
    ):
        with pytest.raises(AssertionError):
            exported.check(wrong)
