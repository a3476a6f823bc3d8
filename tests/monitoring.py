"""The example dashboard and alert rules of the documentation, read."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

PAGE = Path(__file__).parents[1] / "docs" / "monitoring.md"
ALERTS = PAGE.parent / "monitoring" / "alerts.yml"
DASHBOARD = PAGE.parent / "monitoring" / "grafana-dashboard.json"


def rules() -> list[dict[str, Any]]:
    """The alert rules."""
    groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    """The panels of the dashboard."""
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    return found


def expressions() -> list[str]:
    """Every expression of both, what Grafana fills in filled in."""
    shown = [target["expr"] for panel in panels() for target in panel["targets"]]
    filled = [expr.replace("$job", "celery-expiry").replace("$__rate_interval", "5m") for expr in shown]
    return filled + [rule["expr"] for rule in rules()]


def named(expression: str) -> set[str]:
    """The metrics that an expression names."""
    return set(re.findall(r"\bcelery_expiry_\w+", expression))
