"""What the web part of the shop does: refer a friend, and sign up."""

from datetime import timedelta

from celery_redis_expiry import cancel, schedule_on_expiry
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from referrals.models import Referral
from referrals.tasks import check_signup


def refer(referrer: str, phone: str, *, delay: float | timedelta | None = None) -> Referral:
    """Save a referral, and look in `delay` (settings.REFERRAL_DELAY) whether the friend has signed up."""
    with transaction.atomic():
        referral = Referral.objects.create(referrer=referrer, phone=phone)
        # Only once the row is there to be found: a rolled-back referral must leave no timer. Should Redis be
        # out of reach at this moment, the caller gets the error and `manage.py rearm_referrals` mends it.
        transaction.on_commit(
            lambda: schedule_on_expiry(
                check_signup.s(referral.pk),
                seconds=settings.REFERRAL_DELAY if delay is None else delay,
                key=referral.timer_name,
            )
        )
    return referral


def sign_up(referral: Referral) -> bool:
    """Note that the friend has signed up, and call the timer off. False where that was known before."""
    with transaction.atomic():
        unknown = Referral.objects.filter(pk=referral.pk, signed_up_at=None)
        signed_up = unknown.update(signed_up_at=timezone.now())
        if signed_up:
            # Saves the worker a look, no more: a timer that fires all the same finds the friend signed up and
            # sends nothing. So it may fail without failing the sign-up (robust).
            transaction.on_commit(lambda: cancel(referral.timer_name), robust=True)
    return bool(signed_up)
