"""The doctor's own affairs: rights for every script, bounds on each check, what no server here can show."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.bin.base import CLIContext

from celery_redis_expiry import doctor
from celery_redis_expiry.cli.doctor import _lines
from celery_redis_expiry.connections import parse
from celery_redis_expiry.doctor import checks_keeping, checks_server, examine
from celery_redis_expiry.doctor.patient import Patient, Server
from celery_redis_expiry.doctor.report import Check, Report, fail, ok, unknown, warn
from celery_redis_expiry.keys import Channels, Keys
from celery_redis_expiry.scripts import NAMES
from celery_redis_expiry.store import rights
from tests.servers.processes import free_port

SETTINGS = Path(__file__).parents[2] / "docs" / "settings.md"
SPECIAL = {"evalsha", "psubscribe", *rights.ON_ANOTHER_TYPE}  # tried in ways of their own


def server(**info: Any) -> Server:
    location = parse("redis://nowhere/0", {}, None, "expiry_redis_url")
    found = Server("nowhere:6379", None, location, Keys("unit"), Channels("unit", "", 1, 0))
    found.info = {"role": "master", **info}
    return found


@pytest.fixture
def patient() -> Patient:
    return Patient(Celery("unit", set_as_current=False), timeout=1.0, late=5.0, roles=("worker",))


def test_every_script_is_somebodys_and_every_right_is_tried() -> None:
    assert {name for role in rights.ROLES.values() for name in role.scripts} == set(NAMES)
    for role in rights.ROLES:
        assert rights.rights_of(role) <= {*rights.TRIALS, *SPECIAL}


@pytest.mark.parametrize(
    ("role", "row"),
    [
        ("producer", "producer"),
        ("worker", "expiry worker |"),
        ("operator", "operator "),
        ("rescuer", "rescuer"),
    ],
)
def test_the_documented_rights_hold_all_that_are_looked_at(role: str, row: str) -> None:
    [line] = [line for line in SETTINGS.read_text().splitlines() if line.startswith(f"| {row}")]
    told = re.findall(r"(?<=[`\s])\+([a-z|\\]+)", line)
    documented = {right.replace("\\", "") for right in told} - {"config|get", "config|set"}
    assert rights.rights_of(role) <= documented


def test_the_documented_rights_for_firing_in_place() -> None:
    [line] = [line for line in SETTINGS.read_text().splitlines() if "that [fires in place]" in line]
    further = rights.rights_of("in place") - rights.rights_of("worker")
    assert further == set(re.findall(r"(?<=[`\s])\+([a-z]+)", line))


def test_what_servers_say_moves_no_terminal() -> None:
    report = Report([Check("workers", fail("a\x1b]0;b@host overslept", "start\x07 it"))])
    text = "".join(_lines(report, CLIContext(app=None, no_color=True, workdir=None, quiet=False)))
    assert "a\\x1b]0;b@host" in text
    assert text.isprintable()


def test_a_check_that_breaks_or_hangs_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    never = threading.Event()

    def breaks(patient: Patient) -> Any:
        raise KeyError("unheard of")

    def hangs(patient: Patient) -> Any:
        never.wait()

    monkeypatch.setattr(doctor, "BROKER_CHECKS", (breaks, hangs, *doctor.BROKER_CHECKS))
    app = Celery("unit", broker="memory://", backend=f"redis://127.0.0.1:{free_port()}", set_as_current=False)
    findings = {check.name: check.finding for check in examine(app, timeout=0.2).checks}
    never.set()
    assert findings["breaks"].status == "fail"
    assert "unheard of" in findings["breaks"].text
    assert findings["hangs"].status == "fail"
    assert "1.4 s" in findings["hangs"].text
    assert findings["redis"].status == "fail"
    assert findings["broker"].status == "ok"
    assert findings["overdue"].status == "unknown"


def test_a_broken_url_of_the_broker_is_not_quoted() -> None:
    """A slash in the password, not escaped: what comes before it looks like the port."""
    app = Celery("unit", broker="redis://:very/secret@host/0", set_as_current=False)
    app.conf.expiry_redis_url = f"redis://127.0.0.1:{free_port()}/0"
    findings = {check.name: check.finding for check in examine(app, timeout=1).checks}
    assert findings["broker"].status == "fail"
    assert "very" not in str(findings)


def test_without_a_redis_in_the_configuration() -> None:
    report = examine(Celery("unit", broker="memory://", set_as_current=False), timeout=1)
    assert "expiry_redis_url" in report.checks[0].finding.text
    assert not report.ok()


def test_a_report_is_good_if_nothing_fails() -> None:
    good, bad = Check("a", ok("fine")), Check("b", fail("broken", "mend it"))
    soso, dark = Check("c", warn("so so", "look")), Check("d", unknown("dark", "light"))
    assert Report([good, soso, dark]).ok()
    assert not Report([good, bad]).ok()
    assert Report([good]).ok(strict=True)
    assert not Report([good, soso]).ok(strict=True)
    assert not Report([good, dark]).ok(strict=True)


@pytest.mark.parametrize(
    ("info", "status", "word"),
    [
        ({"redis_version": "6.0.16"}, "fail", "PXAT"),
        ({"redis_version": "5.0.7"}, "fail", "PXAT"),
        ({"redis_version": "6.2.0"}, "ok", "6.2.0"),
        ({"redis_version": "10.0.1"}, "ok", "10.0.1"),
        (
            {"redis_version": "7.2.4", "server_name": "valkey", "valkey_version": "8.1.0"},
            "ok",
            "valkey 8.1.0",
        ),
        ({"redis_version": "unstable"}, "warn", "unstable"),
    ],
)
def test_versions(patient: Patient, info: dict[str, Any], status: str, word: str) -> None:
    finding = checks_server.version(server(**info), patient)
    assert finding.status == status
    assert word in finding.text


@pytest.mark.parametrize(
    ("used", "limit", "aside", "status"),
    [
        (500, 0, 0, "ok"),
        (500, 1000, 0, "ok"),
        (950, 1000, 0, "warn"),
        (1000, 1000, 0, "fail"),
        (1000, 1000, 500, "ok"),
    ],
)
def test_memory(patient: Patient, used: int, limit: int, aside: int, status: str) -> None:
    found = server(used_memory=used, maxmemory=limit, mem_not_counted_for_evict=aside)
    assert checks_keeping.memory(found, patient).status == status


@pytest.mark.parametrize(
    ("state", "lag", "status"), [("online", 0, "ok"), ("online", 60, "warn"), ("wait_bgsave", 0, "warn")]
)
def test_a_replica_behind(patient: Patient, state: str, lag: int, status: str) -> None:
    replica = {"ip": "10.0.0.2", "port": 6379, "state": state, "offset": 70, "lag": lag}
    found = server(connected_slaves=1, slave0=replica, master_repl_offset=100)
    finding = checks_server.replicas(found, patient)
    assert finding.status == status
    assert "30 bytes behind" in finding.text


def test_a_failed_write_of_the_aof(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Server, "config", lambda self, name: {"appendfsync": "everysec", "save": ""}[name])
    good = server(aof_enabled=1, aof_last_write_status="ok")
    assert checks_keeping.persistence(good, patient).status == "ok"
    bad = server(aof_enabled=1, aof_last_write_status="err")
    assert checks_keeping.persistence(bad, patient).status == "fail"


def test_a_failed_snapshot(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        Server, "config", lambda self, name: {"appendfsync": "everysec", "save": "3600 1"}[name]
    )
    good = server(aof_enabled=0, rdb_last_bgsave_status="ok")
    assert checks_keeping.persistence(good, patient).status == "warn"
    bad = server(aof_enabled=0, rdb_last_bgsave_status="err")
    assert checks_keeping.persistence(bad, patient).status == "fail"
