"""`celery expiry …` as a process: colours on a terminal alone, pipes that close, progress, exit codes."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Iterator

import pytest

from celery_redis_expiry import schedule_many_on_expiry, schedule_on_expiry
from tests.servers.workers import environment
from tests.site import Site
from tests.waiting import eventually

CELERY = [sys.executable, "-m", "celery", "-A", "ledger_app:app"]


@pytest.fixture
def full(idle_site: Site) -> Site:
    schedule_many_on_expiry(
        {"signature": idle_site.record(n), "seconds": 600, "key": f"t:{n}"} for n in range(300)
    )
    return idle_site


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    ours, theirs = pty.openpty()
    yield ours, theirs
    os.close(ours)


def on_terminal(site: Site, terminal: tuple[int, int], *words: str) -> str:
    """What a command writes to a terminal, its stderr among it."""
    ours, theirs = terminal
    env = environment(site.config) | {"TERM": "xterm", "COLUMNS": "60"}
    process = subprocess.Popen(
        [*CELERY, *words], stdin=theirs, stdout=theirs, stderr=theirs, env=env, cwd=site.folder
    )
    os.close(theirs)
    written = b""
    try:
        while chunk := os.read(ours, 65536):
            written += chunk
    except OSError:  # the other end is closed
        pass
    assert process.wait(20) == 0
    return written.decode()


def test_colours_and_width_of_a_terminal(full: Site, terminal: tuple[int, int]) -> None:
    written = on_terminal(full, terminal, "expiry", "list", "--limit", "3")
    assert "\x1b[1m" in written
    head, *rows = written.replace("\x1b[1m", "").replace("\x1b[0m", "").splitlines()
    assert head.startswith("REMAINING")
    assert all(len(row) <= 60 for row in rows[:3])


def test_no_colour(full: Site, terminal: tuple[int, int]) -> None:
    assert "\x1b" not in on_terminal(full, terminal, "--no-color", "expiry", "list", "--limit", "3")
    assert "\x1b" not in full.celery("-A", "ledger_app:app", "expiry", "list", "--limit", "3")


def test_long_work_shows_how_far_it_is(full: Site, terminal: tuple[int, int]) -> None:
    written = on_terminal(full, terminal, "expiry", "purge", "--yes")
    assert "purging" in written
    assert "100%" in written
    assert "300 timers purged" in written


def test_what_was_imported_fires(idle_site: Site) -> None:
    """One that was due meanwhile, one that falls due; each once, and no other."""
    for name, seconds in (("due", 0), ("soon", 2), ("later", 600)):
        schedule_on_expiry(idle_site.record(name), seconds, key=name)
    file = str(idle_site.folder / "timers.jsonl")

    def expiry(*words: str) -> str:
        return idle_site.celery("-A", "ledger_app:app", "expiry", *words)

    assert expiry("export", file) == "3 exported\n"
    assert expiry("purge", "--force") == "3 timers purged\n"
    worker = idle_site.expiry()
    assert "stop the expiry workers first" in expiry("import", file)
    assert expiry("import", "--live", file) == "3 put\n"
    eventually(lambda: idle_site.queues.llen("celery") == 2, what=lambda: worker.process.tail())
    assert idle_site.waiting() == 1
    assert idle_site.stored()["ids"] == 1


def test_a_pipe_that_closes(full: Site) -> None:
    process = subprocess.Popen(
        [*CELERY, "expiry", "list", "--json", "--limit", "1000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(full.config),
        cwd=full.folder,
        text=True,
    )
    with process:
        assert process.stdout
        assert process.stderr
        assert "t:" in process.stdout.readline()
        process.stdout.close()
        assert "Traceback" not in process.stderr.read()
    assert process.returncode in (0, 1)


@pytest.mark.parametrize(
    ("words", "code"), [(("show", "t:1"), 0), (("show", "nobody"), 1), (("list", "--due-after", "x"), 2)]
)
def test_exit_codes(full: Site, words: tuple[str, ...], code: int) -> None:
    done = subprocess.run(
        [*CELERY, "expiry", *words],
        env=environment(full.config),
        cwd=full.folder,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code
