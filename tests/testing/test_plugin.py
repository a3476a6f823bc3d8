"""The plugin as users have it: real runs of pytest, in a project of their own."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from tests.servers.redis import RedisServer

pytest_plugins = ["pytester"]

#: A project as Celery's documentation has it.
PROJECT = """
    from celery import Celery

    app = Celery("shop", broker="redis://127.0.0.1:1/0", backend="redis://127.0.0.1:1/1")
    app.conf.task_always_eager = True
    app.set_default()
    ran = []

    @app.task
    def check_signup(referral):
        ran.append(referral)
        return f"text to {referral}"
"""
CONFTEST = """
    pytest_plugins = ["celery_redis_expiry.testing"]
    import shop
"""
#: With Celery's own plugin: an app for each test, and a worker in a thread.
CELERY_CONFTEST = """
    import pytest

    pytest_plugins = ["celery.contrib.pytest", "celery_redis_expiry.testing"]

    @pytest.fixture(scope="session")
    def celery_config():
        return {
            "broker_url": "memory://",
            "broker_transport_options": {"polling_interval": 0.02},
            "result_backend": "cache+memory://",
            "expiry_countdown_threshold": 60,
        }

    @pytest.fixture(scope="session")
    def celery_worker_parameters():
        return {"perform_ping_check": False, "shutdown_timeout": 20}
"""


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Callable[..., pytest.RunResult]:
    """Run pytest on a test module, in a process of its own; the project is `shop`."""

    def run(tests: str, conftest: str = CONFTEST, ini: str = "", **passed: int) -> pytest.RunResult:
        pytester.makeini(f"[pytest]\naddopts = --strict-markers -p no:cacheprovider\n{ini}")
        pytester.makepyfile(shop=PROJECT, test_it=tests)
        pytester.makeconftest(conftest)
        result = pytester.runpytest_subprocess("-W", "error::pytest.PytestWarning", timeout=60)
        result.assert_outcomes(**(passed or {"passed": 1}))
        return result

    return run


def test_a_project_whose_tasks_run_at_once(run: Callable[..., pytest.RunResult]) -> None:
    run("""
        import sys
        from datetime import datetime, timedelta, timezone
        from freezegun import freeze_time
        from celery_redis_expiry import cancel, get_timer, schedule_on_expiry
        from shop import check_signup, ran

        def test_that_who_asks_for_no_fixture_pays_nothing():
            assert not {"fakeredis", "lupa"} & set(sys.modules)

        def test_a_day(expiry_clock, pending_timers):
            schedule_on_expiry(check_signup.s(42), seconds=86400, key="referral:42")
            [timer] = pending_timers()
            assert (timer.name, timer.task, timer.args, timer.kwargs) == (
                "referral:42", "shop.check_signup", (42,), {}
            )
            assert abs(timer.due - expiry_clock.now() - timedelta(days=1)) < timedelta(seconds=5)
            assert ran == []
            [fired] = expiry_clock.advance(days=1)
            assert (fired.name, fired.result, ran) == ("referral:42", "text to 42", [42])
            assert pending_timers() == []

        def test_that_nothing_leaks_into_the_next(expiry_clock, pending_timers, expiry_redis):
            schedule_on_expiry(check_signup.s(1), seconds=60)

        def test_the_next(expiry_clock, pending_timers, expiry_redis):
            assert pending_timers() == []
            assert expiry_redis.keys() == []
            assert pending_timers(task="other.*") == []

        def test_without_the_clock_all_is_as_ever():
            assert schedule_on_expiry(check_signup.s(3), seconds=60).get() == "text to 3"

        def test_that_time_machine_is_driven_on(time_machine, expiry_clock):
            time_machine.move_to(datetime(2030, 1, 1, tzinfo=timezone.utc), tick=False)
            schedule_on_expiry(check_signup.s(1), at=datetime(2030, 1, 2, tzinfo=timezone.utc))
            assert len(expiry_clock.advance(days=1)) == 1
            assert datetime.now(timezone.utc) == datetime(2030, 1, 2, tzinfo=timezone.utc)

        @freeze_time("2030-01-01")
        def test_freezegun(expiry_clock):
            schedule_on_expiry(check_signup.s(1), at=datetime(2030, 1, 2))
            assert len(expiry_clock.advance_to(datetime(2030, 1, 2))) == 1
            assert datetime.now() == datetime(2030, 1, 2)

        def test_the_time_is_the_real_one_again():
            assert datetime.now().year < 2030
        """, passed=8)  # fmt: skip


def test_what_is_wrong_is_told(run: Callable[..., pytest.RunResult]) -> None:
    result = run(
        """
        import sys
        import pytest

        @pytest.mark.expiry(server="x")
        def test_unknown(expiry_clock): ...

        @pytest.mark.expiry(run="there")
        def test_nowhere(expiry_clock): ...

        @pytest.mark.expiry(redis_url="redis://127.0.0.1:1/0")
        def test_away(expiry_clock): ...

        @pytest.fixture
        def no_lua(monkeypatch):
            monkeypatch.setitem(sys.modules, "lupa", None)

        def test_not_installed(no_lua, expiry_clock): ...

        @pytest.fixture
        def no_app(monkeypatch):
            monkeypatch.setattr("shop.app.main", "default")

        def test_no_app(no_app, expiry_clock): ...
        """,
        errors=5,
    )
    result.stdout.fnmatch_lines_random(
        [
            "*the marker expiry takes redis_url and run, by name*",
            "*run must be one of here, worker, not 'there'*",
            "*redis://127.0.0.1:1/0 can't be reached*",
            "*pip install 'celery-redis-expiry[[]testing[]]'*",
            "*no Celery app is current here. Import yours in conftest.py*",
        ]
    )


def test_a_real_redis_by_ini_and_marker(
    run: Callable[..., pytest.RunResult], shared_redis: Callable[..., RedisServer]
) -> None:
    server = shared_redis(use="plugin")
    server.reset()
    with server.client() as client:
        client.set("theirs", "stays")
        run(
            """
            import pytest
            from celery_redis_expiry import schedule_on_expiry
            from shop import check_signup

            def test_real(expiry_clock, expiry_redis):
                schedule_on_expiry(check_signup.s(42), seconds=86400)
                assert expiry_redis.info()["redis_version"]
                assert expiry_redis.get("theirs") == b"stays"
                assert [each.result for each in expiry_clock.advance(days=1)] == ["text to 42"]
                schedule_on_expiry(check_signup.s(43), seconds=86400)

            @pytest.mark.expiry(redis_url="memory://")
            def test_memory(expiry_redis):
                assert expiry_redis.keys() == []
            """,
            ini=f"expiry_redis_url = {server.url()}",
            passed=2,
        )
        assert client.keys() == ["theirs"]


def test_a_worker_in_a_thread(run: Callable[..., pytest.RunResult]) -> None:
    run("""
        import threading
        import pytest
        from celery import chain
        from celery_redis_expiry import schedule_on_expiry
        from celery_redis_expiry.testing import running

        @pytest.fixture
        def tasks(celery_app):
            @celery_app.task(shared=False, bind=True)
            def flaky(self, label):
                threads.append(threading.current_thread())
                if self.request.retries < 2:
                    raise self.retry(countdown=3600)
                return label

            @celery_app.task(shared=False)
            def add(x, y):
                return x + y

            threads.clear()
            return flaky, add

        threads = []

        def test_the_worker_runs_what_fires(celery_app, tasks, celery_worker, expiry_clock, pending_timers):
            flaky, add = tasks
            celery_worker.reload()
            result = schedule_on_expiry(flaky.s("done"), seconds=60)
            fired = expiry_clock.advance(minutes=1)
            assert [each.state for each in fired] == ["RETRY"]
            [retry] = pending_timers()
            assert (retry.id, retry.timer.retries) == (result.id, 1)
            fired = expiry_clock.advance(hours=2)
            assert [(each.state, each.result) for each in fired][-1] == ("SUCCESS", "done")
            assert result.get(timeout=10) == "done"
            assert len(threads) == 3 and threading.main_thread() not in threads

            steps = chain(add.s(1, 1), add.s(10), add.s(100).set(countdown=3600))
            result = schedule_on_expiry(steps, seconds=60)
            fired = expiry_clock.advance(hours=2)
            assert [each.task for each in fired] == ["celery.chain", add.name]
            assert result.get(timeout=10) == 112

            schedule_on_expiry(add.s(2, 2), every=600, overlap=False, key="tick")
            fired = expiry_clock.advance(minutes=30)
            assert [(each.name, each.state, each.result) for each in fired] == [("tick", "SUCCESS", 4)] * 3

        def test_an_app_without_worker(celery_app, tasks, expiry_clock):
            result = schedule_on_expiry(tasks[1].s(1, 1), seconds=60)
            [fired] = expiry_clock.advance(minutes=1)
            assert fired.result == 2 == result.get(timeout=5)
        @pytest.mark.expiry(run="worker")
        def test_that_no_worker_is_told(celery_app, tasks, expiry_clock, monkeypatch):
            monkeypatch.setattr(running, "PATIENCE", 0.2)
            schedule_on_expiry(tasks[1].s(1, 1).set(queue="nobody"), seconds=60)
            with pytest.raises(TimeoutError, match="no worker has done"):
                expiry_clock.advance(minutes=1)

        @pytest.fixture(scope="session")
        def double(celery_session_app):
            return celery_session_app.task(twice, name="double", shared=False)

        def twice(x):
            threads.append(threading.current_thread())
            return 2 * x

        def test_the_app_and_worker_of_a_session(double, celery_session_worker, expiry_clock):
            celery_session_worker.reload()
            result = schedule_on_expiry(double.s(3), seconds=60)
            assert [timer.args for timer in expiry_clock.pending()] == [(3,)]
            [fired] = expiry_clock.advance(minutes=1)
            assert fired.result == 6 == result.get(timeout=10)

        @pytest.mark.expiry(run="here")
        def test_or_not(double, celery_session_worker, expiry_clock):
            threads.clear()
            schedule_on_expiry(double.s(1), seconds=60)
            [fired] = expiry_clock.advance(minutes=1)
            assert fired.result == 2 and threads == [threading.main_thread()]
        """, CELERY_CONFTEST, passed=5)  # fmt: skip


def test_unittest_without_pytest(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        shop=PROJECT,
        test_it="""
            import sys
            sys.modules["pytest"] = None
            from importlib import util
            found = util.find_spec
            util.find_spec = lambda name, *more: None if name == "pytest" else found(name, *more)
            import unittest
            from celery_redis_expiry import schedule_on_expiry
            from celery_redis_expiry.testing import expiry_clock_of
            from shop import app, check_signup

            class DayTest(unittest.TestCase):
                def test_a_day(self):
                    with expiry_clock_of(app) as clock:
                        schedule_on_expiry(check_signup.s(42), seconds=86400)
                        [fired] = clock.advance(days=1)
                        self.assertEqual(fired.result, "text to 42")
            """,
    )
    done = pytester.run(sys.executable, "-m", "unittest", "test_it", timeout=60)
    assert done.ret == 0, done.stderr.str()
