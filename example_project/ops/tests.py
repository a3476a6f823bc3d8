"""The operator's page without Redis and workers."""

from datetime import datetime, timedelta, timezone
from typing import Any
from unittest import mock

from celery_redis_expiry import StoreUnavailable, Timer
from django.test import SimpleTestCase, override_settings
from kombu.exceptions import OperationalError

from ops import figures, showing

PATHS = ("/ops", "/ops/live")


def told(**changes: Any) -> dict[str, Any]:
    counts = {"waiting": 3, "parked": 0, "due": 0, "claimed": 0, "dead": 0}
    fired = {"fired": 120, "fired_by_event": 119, "fired_by_sweep": 1, "recovered": 0}
    lateness = {"p50": 0.0012, "p99": 0.0034, "max": 0.0191, "count": 120, "window": 300}
    return {**counts, **fired, "lateness": lateness, "notifications": True, **changes}


@override_settings(OPS_OPEN=True)
class OperationsTest(SimpleTestCase):
    def setUp(self) -> None:
        due = datetime.now(timezone.utc) + timedelta(seconds=30)
        self.timers = [
            Timer("id", "referral:7", "check_signup", due, 30.0, "trigger", "waiting", args="(7,)")
        ]
        self.letters: list[Any] = []
        self.answers: dict[str, Any] = {"worker@a": {"pool": {}}, "expiry@a": {"expiry": told()}}
        for name, answer in (
            ("iter_timers", lambda **_: iter(self.timers)),
            ("iter_dead_letters", lambda: iter(self.letters)),
        ):
            self.patch(showing, name).side_effect = answer
        app = self.patch(figures, "current_app")
        self.stats = app.control.inspect.return_value.stats
        self.stats.side_effect = lambda: self.answers

    def patch(self, module: Any, name: str) -> Any:
        patcher = mock.patch.object(module, name)
        self.addCleanup(patcher.stop)
        return patcher.start()

    def page(self) -> str:
        answer = self.client.get("/ops")
        self.assertEqual(answer.status_code, 200)
        return answer.content.decode()

    def test_it_is_closed_unless_opened(self) -> None:
        with override_settings(OPS_OPEN=False):
            for path in PATHS:
                self.assertEqual(self.client.get(path).status_code, 404)
        for path in PATHS:
            self.assertEqual(self.client.get(path).status_code, 200)

    def test_what_waits_and_how_the_workers_do(self) -> None:
        page = self.page()
        for words in ("referral:7", "(7,)", "expiry@a", "3.4 ms", "1.2 ms", "19.1 ms", "<td>24</td>"):
            self.assertIn(words, page)
        self.assertNotIn("worker@a", page)
        self.assertNotIn("No expiry worker answers", page)

    def test_lateness_is_that_of_the_slowest_worker(self) -> None:
        slow = {"p50": 0.5, "p99": 1.5, "max": 2.0, "count": 1, "window": 300}
        idle = {"p50": None, "p99": None, "max": None, "count": 0, "window": 300}
        self.answers["expiry@b"] = {"expiry": told(lateness=slow)}
        self.answers["expiry@c"] = {"expiry": told(lateness=idle)}
        self.assertInHTML("<dd>1500.0 ms</dd>", self.page())

    def test_a_worker_without_redis(self) -> None:
        nothing = dict.fromkeys(("waiting", "parked", "due", "claimed", "dead"))
        self.answers = {
            "expiry@a": {"expiry": told(**nothing, error="Redis away")},
            "expiry@b": {"expiry": told(waiting=17)},
        }
        page = self.page()
        self.assertIn("Redis away", page)
        self.assertInHTML("<div><dt>Waiting</dt><dd>17</dd></div>", page)

    def test_no_worker_answers(self) -> None:
        self.answers = {}
        self.assertIn("No expiry worker answers", self.page())
        self.stats.side_effect = OperationalError("broker away")
        self.assertIn("No expiry worker answers", self.page())

    def test_dead_letters_have_their_reason(self) -> None:
        letter = mock.Mock(
            label="cart:9", reason="queue <gone>", buried=datetime.now(timezone.utc), origin="w"
        )
        self.letters = [letter]
        self.assertIn("queue &lt;gone&gt;", self.page())

    def test_redis_is_away(self) -> None:
        showing.iter_timers.side_effect = StoreUnavailable("redis://here can't be reached")
        self.assertIn("redis://here can&#x27;t be reached", self.page())

    def test_only_so_many(self) -> None:
        self.timers *= 1000
        self.assertEqual(self.page().count('<th scope="row">referral:7'), showing.SHOWN)
