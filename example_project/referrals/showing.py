"""What the page shows of the referrals, their timers, and the text messages that arrived."""

from dataclasses import dataclass, field

from celery_redis_expiry import StoreUnavailable, Timer, get_timer

from referrals import sms
from referrals.models import Referral
from shop.live import Lists, Piece, piece, redis_now

#: How many of each the page shows, the newest. A timer costs two round trips to Redis each time.
REFERRALS, TEXTS = 20, 12
LATER = 30  # seconds by which its button moves a timer


@dataclass
class Shop:
    """All that the page shows, as it is now; what is out of reach is missing, and said to be."""

    now: float | None
    lists: Lists


@dataclass
class _Timers:
    """Looks timers up, and after the first failure no more: the page would take a timeout for each."""

    away: bool = False
    seen: list[Timer] = field(default_factory=list)

    def get(self, referral: Referral) -> Timer | None:
        if self.away:
            return None
        try:
            timer = get_timer(referral.timer_name)
        except StoreUnavailable:
            self.away = True
            return None
        if timer is not None:
            self.seen.append(timer)
        return timer


def shop() -> Shop:
    timers = _Timers()
    friends = []
    for referral in Referral.objects.order_by("-pk")[:REFERRALS]:
        timer = timers.get(referral) if _is_open(referral) else None
        state = _state(referral, timer, timers.away)
        friends.append(_friend(referral, state, timer))
    try:
        messages = sms.sent(TEXTS)
    except sms.GatewayError:
        messages = None
    texts = [
        piece(f"text-{message.key}", "referrals/text.html", message=message) for message in messages or ()
    ]
    notices = []
    if timers.away:
        notices.append(piece("redis-away", "referrals/redis_away.html"))
    if messages is None:
        notices.append(piece("gateway-away", "referrals/gateway_away.html"))
    return Shop(redis_now(timers.seen), {"notices": notices, "friends": friends, "texts": texts})


def _friend(referral: Referral, state: str, timer: Timer | None) -> Piece:
    context = {
        "referral": referral,
        "state": state,
        "timer": timer,
        "open": _is_open(referral),
        "later": LATER,
    }
    if timer is not None and timer.due is not None:
        # The whole time it had, moves included: what the ring shows is a part of it.
        context["span"] = (timer.due - referral.created_at).total_seconds()
    return piece(f"friend-{referral.pk}", "referrals/friend.html", **context)


def _is_open(referral: Referral) -> bool:
    return not (referral.signed_up_at or referral.cancelled_at or referral.reminder_claimed_at)


def _state(referral: Referral, timer: Timer | None, away: bool) -> str:
    if referral.reminded_at:
        return "reminded"
    if referral.reminder_claimed_at:
        return "sending"
    if referral.signed_up_at:
        return "signed-up"
    if referral.cancelled_at:
        return "cancelled"
    if timer is not None:
        return timer.state  # waiting, parked, or claimed
    return "unknown" if away else "gone"
