"""Who should have got a text and who got one: what the demo's exit code rests on."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

#: Seconds before the due time from which on a sign-up may find its timer firing already.
RACE = 1.0


@dataclass
class Friend:
    """One referral, as the database, the queue and the gateway know it in the end. Times are Unix times."""

    key: str  #: the idempotency key of its text
    due: float
    signed_up: float | None = None
    #: When the task was about to decide that the text goes out. The database lets a sign-up come before or
    #: after that, and is locked when a sign-up takes its stamp: so a rightful decision has the earlier one.
    claimed: float | None = None
    #: When messages of its timer came into the queue: once, or never.
    fired: list[float] = field(default_factory=list)
    texts: list[float] = field(default_factory=list)

    @property
    def should_get(self) -> int:
        """How many texts are right: one, unless the friend had signed up when the task looked."""
        if self.signed_up is None:
            return 1
        return 1 if self.claimed is not None and self.claimed < self.signed_up else 0


def faults(friends: list[Friend], messages: list[dict[str, Any]], timers_left: int) -> list[str]:
    """Everything that is wrong, a sentence each; nothing where the demo kept its promise."""
    per_key = Counter(message["key"] for message in messages)
    known = {friend.key for friend in friends}
    counts = {
        "friends who should have got a text got none": sum(f.should_get > per_key[f.key] for f in friends),
        "friends got more than one text": sum(per_key[f.key] > 1 for f in friends),
        "friends got a text though they had signed up": sum(
            per_key[f.key] > 0 for f in friends if not f.should_get
        ),
        "texts went to nobody we know": sum(count for key, count in per_key.items() if key not in known),
        "unregistered friends' timers never fired": sum(not f.fired for f in friends if f.signed_up is None),
        "timers fired more than once": sum(len(f.fired) > 1 for f in friends),
        # Redis stamps MONITOR's lines with a time that may be a millisecond old.
        "timers fired before they were due": sum(min(f.fired) < f.due - 0.002 for f in friends if f.fired),
        "timers fired though called off in time": sum(
            bool(f.fired) for f in friends if f.signed_up is not None and f.signed_up < f.due - RACE
        ),
        "timers are still in Redis": timers_left,
    }
    return [f"{count} {what}" for what, count in counts.items() if count]


def percentiles(values: list[float]) -> str:
    """Median, 99th percentile and maximum of some seconds, as milliseconds."""
    if not values:
        return "nothing to measure"
    ordered = sorted(values)
    p50, p99 = (ordered[min(int(len(ordered) * share), len(ordered) - 1)] for share in (0.5, 0.99))
    return f"p50 {p50 * 1000:.1f} ms   p99 {p99 * 1000:.1f} ms   max {ordered[-1] * 1000:.1f} ms"


def summary(
    friends: list[Friend], messages: list[dict[str, Any]], stats: dict[str, int], retries: int
) -> list[str]:
    """What happened, in lines to print."""
    fired = [f for f in friends if f.fired]
    signed_up = [f for f in friends if f.signed_up is not None]
    called_off = [f for f in signed_up if not f.fired]
    too_late = [f for f in signed_up if f.texts]
    return [
        f"scheduled      {len(friends)} timers, one for each friend referred",
        f"cancelled      {len(called_off)}, as the friend signed up in time",
        f"fired          {len(fired)}, {len(signed_up) - len(called_off)} of them while the friend signed up",
        f"messages sent  {len(messages)}, {len(too_late)} of them to friends who signed up a moment too late",
        f"gateway        as told, refused {stats['refused']}, left {stats['unanswered']} without an answer;",
        f"               Celery retried {retries} times, {stats['repeats']} of the texts had been taken",
        f"lateness       {percentiles([f.fired[0] - f.due for f in fired])}",
        "               from due until the message is in the broker's queue, stamped by Redis (MONITOR)",
        f"to the text    {percentiles([f.texts[0] - f.due for f in friends if f.texts])}",
        "               from due until the gateway took the text: queue, worker, database, retries and all",
    ]
