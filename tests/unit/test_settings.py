"""Each setting is checked, and documented as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from celery_redis_expiry import NotConfigured
from celery_redis_expiry.settings import Settings, documented

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("expiry_redis_url", 6379),
        ("expiry_redis_options", "x"),
        ("expiry_namespace", "a{b}"),
        ("expiry_namespace", "a*"),
        ("expiry_namespace", ""),
        ("expiry_configure_notifications", "yes"),
        ("expiry_follow_foreign_ttl", 1),
        ("expiry_lease", 4),
        ("expiry_lease", "60"),
        ("expiry_lease", True),
        ("expiry_batch_size", 0),
        ("expiry_batch_size", 2.5),
        ("expiry_batch_size", 5000),
        ("expiry_metrics_port", "9808"),
        ("expiry_metrics_port", 70000),
        ("expiry_metrics_host", 0),
        ("expiry_metrics_host", ""),
        ("expiry_countdown_threshold", -1),
        ("expiry_countdown_threshold", "60"),
        ("expiry_countdown_threshold", True),
    ],
)
def test_unusable_values_are_named(name: str, value: Any) -> None:
    app = Celery("unit", set_as_current=False)
    app.conf.update({name: value})
    with pytest.raises(NotConfigured, match=name):
        Settings.of(app)


def test_the_page_says_what_the_code_does() -> None:
    page = PAGE.read_text()
    for name, kind, default, meaning in documented():
        row = f"| `{name}` | `{kind}` | `{default!r}` | {meaning} |".replace(" | None`", " \\| None`")
        assert row in page, f"docs/settings.md lacks this row:\n{row}"
    assert page.count("| `expiry_") == len(documented()), "a setting that the code has not"
