"""docs/monitoring.md, the dashboard and the alert rules: they say what the code does."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from celery_redis_expiry.worker.reporting.metrics import METRICS
from tests.monitoring import ALERTS, DASHBOARD, PAGE, expressions, named, panels, rules


def test_the_metrics_of_the_page_are_those_of_the_code() -> None:
    rows = re.findall(r"^\| `celery_expiry_.*$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert rows == [
        f"| `{metric.name}` | {metric.kind} | {', '.join(f'`{label}`' for label in metric.labels)}"
        f"{' ' if metric.labels else ''}| {'all' if metric.shared else 'worker'} | {metric.meaning} |"
        for metric in METRICS
    ]


def test_every_alert_is_on_the_page_and_says_what_to_do() -> None:
    told = re.findall(r"^\| `(CeleryExpiry\w+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert told == [rule["alert"] for rule in rules()]
    for rule in rules():
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert rule["annotations"]["summary"].startswith("{{ $labels.job }}: ")
        assert rule["annotations"]["description"].endswith((".", "%h"))


def test_what_all_workers_share_is_never_summed() -> None:
    shared = {metric.name for metric in METRICS if metric.shared}
    for expression in expressions():
        if named(expression) & shared:
            assert expression.startswith("max"), expression


def test_every_metric_is_shown() -> None:
    shown = {re.sub("_(bucket|sum|count)$", "", name) for each in expressions() for name in named(each)}
    assert shown == {metric.name for metric in METRICS}


def test_the_dashboard_is_whole() -> None:
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    assert set(re.findall(r"\$\{?([a-z]+)", json.dumps(panels()))) == variables
    ids = [panel["id"] for panel in panels()]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        assert panel["title"]
        place = panel["gridPos"]
        cells = {
            (place["x"] + column, place["y"] + row)
            for column in range(place["w"])
            for row in range(place["h"])
        }
        assert not cells & taken, f"{panel['title']} lies over another"
        assert place["x"] + place["w"] <= 24
        taken |= cells


def test_promtool_finds_no_fault(promtool: str, tmp_path: Path) -> None:
    """In the alert rules, nor in the dashboard's expressions, given as rules."""
    recorded = [{"record": f"job:panel:{number}", "expr": expr} for number, expr in enumerate(expressions())]
    shown = tmp_path / "dashboard.json"  # JSON is YAML
    shown.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": recorded}]}))
    checked = subprocess.run(
        [promtool, "check", "rules", "--lint=all", "--lint-fatal", str(ALERTS), str(shown)],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
