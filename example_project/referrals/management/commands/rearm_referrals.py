"""Give every open referral its timer back, after Redis was out of reach or has lost its data."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from celery_redis_expiry import schedule_many_on_expiry
from django.conf import settings
from django.core.management.base import BaseCommand
from django.utils import timezone

from referrals.models import Referral
from referrals.tasks import check_signup


class Command(BaseCommand):
    help = __doc__

    def handle(self, *args: Any, **options: Any) -> None:
        # A generator and one call: a million referrals take no more memory than a thousand. Where a timer is
        # still waiting, it stays as it is ("keep").
        summary = schedule_many_on_expiry(_timers(), if_exists="keep")
        self.stdout.write(
            f"{summary.scheduled} referrals have their timer, {len(summary.errors)} could not be given one"
        )
        for item in summary.errors:
            self.stderr.write(f"item {item.position}: {item.error}")


def _timers() -> Iterator[dict[str, Any]]:
    delay = timedelta(seconds=settings.REFERRAL_DELAY)
    undone = Referral.objects.filter(signed_up_at=None, cancelled_at=None, reminded_at=None)
    for referral in undone.iterator():
        yield {
            "signature": check_signup.s(referral.pk),
            "seconds": max(referral.created_at + delay - timezone.now(), timedelta(0)),
            "key": referral.timer_name,
        }
