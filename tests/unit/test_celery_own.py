"""The table of Celery's own tests tells what the reports say."""

from __future__ import annotations

from pathlib import Path

from tests.celery_own.run import Run, outcomes
from tests.celery_own.table import table

REPORT = """<testsuites><testsuite>
<testcase classname="t.integration.test_tasks.test_tasks" name="test_eta"><failure/></testcase>
<testcase classname="t.integration.test_tasks.test_tasks" name="test_revoked"/>
<testcase classname="t.integration.test_tasks.test_tasks" name="test_revoked"><error/></testcase>
<testcase classname="t.integration.test_canvas.test_chain" name="test_chain[1]"/>
<testcase classname="t.integration.test_canvas.test_chain" name="test_chain[2]"><skipped/></testcase>
</testsuite></testsuites>"""


def test_the_table(tmp_path: Path) -> None:
    (tmp_path / "report.xml").write_text(REPORT)
    ours = outcomes(tmp_path / "report.xml")
    assert list(ours.values()) == ["failed", "failed", "passed", "skipped"]
    without = dict.fromkeys(ours, "passed") | {"test_canvas.test_chain::test_chain[2]": "skipped"}
    assert table({"without us": Run(without), "with us": Run(ours, fired=7)}).splitlines() == [
        "| Celery's tests | tests | passed without us | passed with us |",
        "| --- | --- | --- | --- |",
        "| `test_tasks` `test_tasks` | 2 | 2 | 0 |",
        "| `test_canvas` `test_chain` | 2 | 1 | 1 |",
        "| **all** | 4 | 3 | 1 |",
        "| timers that fired |  | 0 | 7 |",
        "",
        "- `test_tasks.test_tasks::test_eta`: passed → failed",
        "- `test_tasks.test_tasks::test_revoked`: passed → failed",
    ]
    assert table({"a": Run(ours), "b": Run(ours)}).endswith("No difference.")
