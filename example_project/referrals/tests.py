"""The story without Redis and workers: what is asked of the timer, and what the task does when it fires."""

from collections.abc import Iterator
from io import StringIO
from types import ModuleType
from typing import Any
from unittest import mock

from django.core.management import call_command
from django.test import TestCase, override_settings
from django.utils import timezone

from referrals import services, sms
from referrals.management.commands import rearm_referrals
from referrals.models import Referral
from referrals.tasks import check_signup


def patched(test: TestCase, module: ModuleType, name: str) -> mock.Mock:
    patcher = mock.patch.object(module, name)
    test.addCleanup(patcher.stop)
    return patcher.start()


@override_settings(REFERRAL_DELAY=60)
class ServicesTest(TestCase):
    def setUp(self) -> None:
        self.schedule = patched(self, services, "schedule_on_expiry")
        self.cancel = patched(self, services, "cancel")

    def test_a_referral_gets_its_timer_on_commit(self) -> None:
        referral = services.refer("Ann", "+15550100")
        self.schedule.assert_called_once_with(
            check_signup.s(referral.pk), seconds=60, key=f"referral:{referral.pk}", on_commit=True
        )

    def test_a_referral_can_have_a_delay_of_its_own(self) -> None:
        services.refer("Ann", "+15550100", delay=5)
        self.assertEqual(self.schedule.call_args.kwargs["seconds"], 5)

    def test_a_sign_up_calls_the_timer_off_once(self) -> None:
        referral = Referral.objects.create(referrer="Ann", phone="+15550100")
        with self.captureOnCommitCallbacks(execute=True):
            self.assertTrue(services.sign_up(referral))
            self.assertFalse(services.sign_up(referral))
        self.cancel.assert_called_once_with(f"referral:{referral.pk}")

    def test_a_sign_up_stands_though_redis_is_away(self) -> None:
        referral = Referral.objects.create(referrer="Ann", phone="+15550100")
        self.cancel.side_effect = OSError("Redis is away")
        with self.assertLogs("django", "ERROR"), self.captureOnCommitCallbacks(execute=True):
            services.sign_up(referral)
        referral.refresh_from_db()
        self.assertIsNotNone(referral.signed_up_at)

    def test_a_cancelled_reminder_stays_cancelled(self) -> None:
        referral = Referral.objects.create(referrer="Ann", phone="+15550100")
        with self.captureOnCommitCallbacks(execute=True):
            self.assertTrue(services.cancel_reminder(referral))
            self.assertFalse(services.cancel_reminder(referral))
        self.cancel.assert_called_once_with(f"referral:{referral.pk}")
        send = patched(self, sms, "send")
        check_signup(referral.pk)
        send.assert_not_called()

    def test_a_reminder_on_its_way_is_not_cancelled(self) -> None:
        referral = Referral.objects.create(
            referrer="Ann", phone="+15550100", reminder_claimed_at=timezone.now()
        )
        self.assertFalse(services.cancel_reminder(referral))

    def test_only_open_referrals_get_their_timer_back(self) -> None:
        now = timezone.now()
        open_ones = [{}, {"reminder_claimed_at": now}]
        decided = [{"signed_up_at": now}, {"cancelled_at": now}, {"reminded_at": now}]
        rows = [Referral.objects.create(referrer="Ann", phone="1", **row) for row in open_ones + decided]
        schedule = patched(self, rearm_referrals, "schedule_many_on_expiry")
        timers: list[str] = []

        def take(items: Iterator[dict[str, Any]], **_: Any) -> mock.Mock:
            timers.extend(item["key"] for item in items)
            return mock.Mock(scheduled=len(timers), errors=[])

        schedule.side_effect = take
        call_command("rearm_referrals", stdout=StringIO())
        self.assertEqual(timers, [row.timer_name for row in rows[:2]])


class CheckSignupTest(TestCase):
    def setUp(self) -> None:
        self.send = patched(self, sms, "send")
        self.referral = Referral.objects.create(referrer="Ann", phone="+15550100")

    def test_a_friend_who_has_not_signed_up_gets_one_text(self) -> None:
        check_signup(self.referral.pk)
        check_signup(self.referral.pk)
        self.send.assert_called_once()

    def test_a_friend_who_has_signed_up_gets_none(self) -> None:
        with self.captureOnCommitCallbacks():
            services.sign_up(self.referral)
        check_signup(self.referral.pk)
        self.send.assert_not_called()

    def test_a_retry_sends_the_same_text_under_the_same_key(self) -> None:
        self.send.side_effect = [sms.GatewayError("503"), None]
        check_signup.apply((self.referral.pk,))  # retries at once, as there is no worker
        first, second = self.send.call_args_list
        self.assertEqual(first, second)
        self.referral.refresh_from_db()
        self.assertIsNotNone(self.referral.reminded_at)

    def test_a_retry_sends_though_the_friend_has_signed_up_since(self) -> None:
        self.send.side_effect = sms.MessageRefused("400")
        with self.assertRaises(sms.MessageRefused):
            check_signup(self.referral.pk)
        self.send.side_effect = None
        with self.captureOnCommitCallbacks():
            services.sign_up(self.referral)
        check_signup(self.referral.pk)
        self.assertEqual(self.send.call_count, 2)

    def test_a_referral_that_was_deleted_is_no_error(self) -> None:
        check_signup(self.referral.pk + 1)
        self.send.assert_not_called()
