"""`celery expiry watch` as a process: on a terminal, with a real worker, and into a pipe that closes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from celery_redis_expiry import schedule_on_expiry
from tests.servers.processes import free_port
from tests.servers.redis import RedisServer
from tests.servers.workers import environment
from tests.site import Site
from tests.terminal import Terminal

WATCH = [sys.executable, "-m", "celery", "-A", "ledger_app:app", "expiry", "watch", "--interval", "0.3"]
#: The terminal's other screen: rich switches to it, and must switch back.
ENTER, LEAVE = "\x1b[?1049h", "\x1b[?1049l"


@pytest.fixture
def terminal(idle_site: Site) -> Iterator[Callable[..., Terminal]]:
    made: list[Terminal] = []

    def open_(site: Site = idle_site) -> Terminal:
        made.append(Terminal(WATCH, env=environment(site.config), cwd=site.folder))
        return made[-1]

    yield open_
    for each in made:
        each.close()


def test_a_timer_fires_on_the_screen(idle_site: Site, terminal: Callable[[], Terminal]) -> None:
    watched = terminal()
    watched.wait_for("no expiry worker is running")
    worker = idle_site.expiry()
    schedule_on_expiry(idle_site.record("x"), 600, key="later")
    soon = schedule_on_expiry(idle_site.record("y"), 300, key="soon")
    watched.wait_for(r"waiting 2 .*\n(.*\n)*.*soon +ledger.record")
    soon.reschedule(seconds=0)
    watched.wait_for(r"waiting 1 .*\n(.*\n)*.*9m \d\ds .*later +ledger.record")
    watched.wait_for(rf"lateness max \S+m?s(.|\n)*{worker.hostname} +1 +\S+ +\S+ +0 +(on|off) +\S+m?s")
    os.kill(watched.process.pid, signal.SIGINT)
    assert watched.process.wait(15) == 0
    assert watched.read().rstrip().endswith((LEAVE, LEAVE + "\x1b[?25h"))
    assert "Traceback" not in watched.written


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_terminal_gets_its_screen_back(
    idle_site: Site, terminal: Callable[[], Terminal], number: signal.Signals
) -> None:
    watched = terminal()
    watched.wait_for("waiting 0")
    assert ENTER in watched.written
    os.kill(watched.process.pid, number)
    assert watched.process.wait(15) == 0
    assert LEAVE in watched.read()


def test_redis_is_away_for_a_while(
    start_redis: Callable[..., RedisServer],
    make_site: Callable[..., Site],
    terminal: Callable[..., Terminal],
) -> None:
    # a server of its own: connections to the shared one lie in kombu's pools, which outlive this test
    server = start_redis()
    watched = terminal(make_site(server))
    watched.wait_for("waiting 0")
    server.stop()
    try:
        watched.wait_for(r"Redis can't be asked since \d")
    finally:
        server.start()
    watched.wait_for(r"\A(?!(.|\n)*can't be asked)(.|\n)*waiting 0")


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_it_ends_when_nobody_reads_on(idle_site: Site, options: tuple[str, ...]) -> None:
    process = subprocess.Popen(
        [*WATCH, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(idle_site.config),
        cwd=idle_site.folder,
        text=True,
    )
    try:
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline()
        process.stdout.close()
        assert process.wait(20) in (0, 1)
        assert "Traceback" not in process.stderr.read()
    finally:
        process.kill()
        process.wait(10)
        process.stderr.close()


def test_without_redis(idle_site: Site) -> None:
    """One frame says so, and no command hangs or shows a traceback."""
    config = {**idle_site.config, "conf": {"expiry_redis_url": f"redis://127.0.0.1:{free_port()}/0"}}
    for words in (("watch", "--once"), ("list",)):
        done = subprocess.run(
            [sys.executable, "-m", "celery", "-A", "ledger_app:app", "expiry", *words],
            env=environment(config),
            cwd=idle_site.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 1, done.stderr
        assert "can't be reached" in " ".join((done.stdout + done.stderr).split())
        assert "Traceback" not in done.stderr
