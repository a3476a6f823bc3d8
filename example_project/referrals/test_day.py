"""The whole story, a day and more of it, in a moment: timers wait in memory, a clock fires them."""

from contextlib import ExitStack
from datetime import timedelta
from importlib.util import find_spec
from unittest import mock, skipUnless

from celery_redis_expiry.testing import expiry_clock_of
from django.test import TestCase
from django.utils import timezone

from referrals import services, sms
from referrals.models import Referral
from shop.celery import app


@skipUnless(
    find_spec("fakeredis") and find_spec("time_machine"), "pip install 'celery-redis-expiry[testing]'"
)
class DayTest(TestCase):
    def setUp(self) -> None:
        with ExitStack() as until:
            self.clock = until.enter_context(expiry_clock_of(app))
            self.send = until.enter_context(mock.patch.object(sms, "send"))
            self.addCleanup(until.pop_all().close)

    def refer(self) -> Referral:
        with self.captureOnCommitCallbacks(execute=True):
            return services.refer("Ann", "+15550100", delay=timedelta(days=1))

    def test_a_friend_who_does_nothing_is_reminded_after_a_day(self) -> None:
        referral = self.refer()
        [timer] = self.clock.pending()
        self.assertEqual((timer.name, timer.args), (f"referral:{referral.pk}", (referral.pk,)))
        self.clock.advance(hours=23)
        self.send.assert_not_called()
        self.clock.advance(hours=1)
        self.send.assert_called_once()
        referral.refresh_from_db()
        self.assertGreaterEqual(referral.reminded_at - referral.created_at, timedelta(hours=23, minutes=59))

    def test_a_friend_who_signs_up_is_not(self) -> None:
        referral = self.refer()
        self.clock.advance(hours=12)
        with self.captureOnCommitCallbacks(execute=True):
            services.sign_up(referral)
        self.assertEqual(self.clock.advance(days=2), [])
        self.send.assert_not_called()

    def test_a_postponed_reminder_comes_later(self) -> None:
        referral = self.refer()
        self.clock.advance(hours=12)
        self.assertTrue(services.postpone(referral, 3600))
        self.assertEqual(self.clock.advance(hours=12), [])
        [fired] = self.clock.advance(hours=1)
        self.assertEqual(fired.state, "SUCCESS")
        self.assertAlmostEqual(timezone.now(), fired.due, delta=timedelta(seconds=5))

    def test_a_gateway_that_is_away_is_tried_again(self) -> None:
        app.conf.expiry_countdown_threshold = 0
        self.addCleanup(setattr, app.conf, "expiry_countdown_threshold", None)
        self.refer()
        self.send.side_effect = [sms.GatewayError("503")] * 10 + [None]
        fired = self.clock.advance(days=2)
        self.assertEqual(self.send.call_count, 11)
        self.assertEqual(fired[-1].state, "SUCCESS")
        # jitter lets a retry wait not at all now and then, but not ten of them
        self.assertEqual({each.state for each in fired}, {"RETRY", "SUCCESS"})
