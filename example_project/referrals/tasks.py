"""What happens when a referral's timer fires. It runs in an ordinary worker, like any task."""

from celery import shared_task
from django.utils import timezone

from referrals import sms
from referrals.models import Referral


@shared_task(
    acks_late=True,  # a worker that dies half-way gives the message back
    autoretry_for=(sms.GatewayError,),
    retry_backoff=1,  # 1 s, 2 s, 4 s …, each with jitter, up to
    retry_backoff_max=600,
    max_retries=20,
)
def check_signup(referral_id: int) -> None:
    """Send the reminder if the friend has not signed up. May run any number of times: it sends one text."""
    referral = _claim(referral_id)
    if referral is None:
        return
    sms.send(
        referral.phone,
        f"{referral.referrer} is waiting for you: sign up today and you both get a voucher.",
        # An attempt whose answer was lost can't be told from one that failed, so the same text may be handed
        # over twice; by this key the gateway knows it for the same.
        idempotency_key=f"referral-{referral.pk}",
    )
    Referral.objects.filter(pk=referral.pk).update(reminded_at=timezone.now())


def _claim(referral_id: int) -> Referral | None:
    """Decide in one statement whether the text goes out, so that a sign-up comes either before or after.

    No transaction stays open while the gateway is asked: that may take seconds.
    """
    Referral.objects.undecided().filter(pk=referral_id).update(reminder_claimed_at=timezone.now())
    # Claimed just now, or by an attempt that did not come to its end.
    return Referral.objects.filter(
        pk=referral_id, reminder_claimed_at__isnull=False, reminded_at=None
    ).first()
