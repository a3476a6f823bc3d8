"""What the web part of the shop does: refer a friend, sign up, move or cancel the reminder."""

from datetime import timedelta

from celery_redis_expiry import cancel, get_timer, reschedule, schedule_on_expiry
from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from referrals.models import Referral
from referrals.tasks import check_signup


def refer(referrer: str, phone: str, *, delay: float | timedelta | None = None) -> Referral:
    """Save a referral, and look in `delay` (settings.REFERRAL_DELAY) whether the friend has signed up."""
    with transaction.atomic():
        referral = Referral.objects.create(referrer=referrer, phone=phone)
        # Only once the row is there to be found: a rolled-back referral must leave no timer. Should Redis be
        # out of reach at this moment, the caller gets the error and `manage.py rearm_referrals` mends it.
        schedule_on_expiry(
            check_signup.s(referral.pk),
            seconds=settings.REFERRAL_DELAY if delay is None else delay,
            key=referral.timer_name,
            on_commit=True,
        )
    return referral


def sign_up(referral: Referral) -> bool:
    """Note that the friend has signed up, and call the timer off. False where that was known before."""
    return _decide(Referral.objects.filter(pk=referral.pk, signed_up_at=None), referral, "signed_up_at")


def cancel_reminder(referral: Referral) -> bool:
    """Note that no reminder is wanted, and call the timer off. False where it was decided before."""
    return _decide(Referral.objects.undecided().filter(pk=referral.pk), referral, "cancelled_at")


def postpone(referral: Referral, seconds: float) -> bool:
    """Move the timer, `seconds` later than it is due now. False if it has none any more.

    Should it fire between the two calls, it fires again at the new time: no harm, the task sends one text.
    """
    timer = get_timer(referral.timer_name)
    if timer is None:
        return False
    later = timedelta(seconds=seconds)
    if timer.due is None:  # parked by somebody's PERSIST
        return reschedule(referral.timer_name, later)
    return reschedule(referral.timer_name, at=timer.due + later)


def _decide(undecided: QuerySet[Referral], referral: Referral, decision: str) -> bool:
    with transaction.atomic():
        decided = undecided.update(**{decision: timezone.now()})
        if decided:
            # Saves the worker a look, no more: a timer that fires all the same finds what was decided and
            # sends nothing. So it may fail without failing the decision (robust).
            transaction.on_commit(lambda: cancel(referral.timer_name), robust=True)
    return bool(decided)
