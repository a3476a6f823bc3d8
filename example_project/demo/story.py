"""What happens to the friends: referred one after another, some sign up in time, some at the last moment.

Imported only when Django is set up: this process plays the web part of the shop.
"""

import heapq
import json
import random
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.request import urlopen

from celery_redis_expiry import get_timer
from django.conf import settings
from django.db.models import Q, QuerySet

from demo.display import Display
from demo.ledger import Friend
from demo.processes import DemoError, Processes
from demo.queue_watch import QueueWatch
from referrals import services
from referrals.models import Referral

IN_TIME, AT_THE_LAST_MOMENT = 0.40, 0.05
#: Seconds for seeing that nothing more comes; and, after the last due time, for waiting for what is missing.
QUIET, PATIENCE = 2.0, 40.0


@dataclass
class Story:
    """Plays the story and gathers, at its end, what became of everybody."""

    total: int
    delays: tuple[float, float]
    processes: Processes
    queue: QueueWatch
    display: Display
    referrals: list[Referral] = field(default_factory=list)
    _timers: list[tuple[str, float]] = field(default_factory=list)
    _sign_ups: list[tuple[float, int]] = field(default_factory=list)
    _signed_up: int = 0

    def play(self) -> None:
        while len(self.referrals) < self.total or self._sign_ups:
            self._step()
            if self._sign_ups and self._sign_ups[0][0] <= time.time():
                services.sign_up(self.referrals[heapq.heappop(self._sign_ups)[1]])
                self._signed_up += 1
            elif len(self.referrals) < self.total:
                self._refer()
            else:
                time.sleep(0.002)

    def wait(self) -> None:
        """Until every timer was due and every friend has signed up or been reminded, and a moment longer."""
        last_due = max(due for _, due in self._timers)
        end = last_due + PATIENCE
        while time.time() < end:
            self._step()
            time.sleep(0.1)
            if end == last_due + PATIENCE and time.time() > last_due and not self._open().exists():
                end = time.time() + QUIET

    def friends(self, messages: list[dict[str, Any]]) -> list[Friend]:
        texts: dict[str, list[float]] = {}
        for message in messages:
            texts.setdefault(message["key"], []).append(message["received_at"])
        rows = Referral.objects.in_bulk()
        friends = []
        for referral, (task_id, due) in zip(self.referrals, self._timers, strict=True):
            row, key = rows[referral.pk], f"referral-{referral.pk}"
            friend = Friend(key, due, fired=self.queue.fired.get(task_id, []), texts=texts.get(key, []))
            friend.signed_up = row.signed_up_at and row.signed_up_at.timestamp()
            friend.claimed = row.reminder_claimed_at and row.reminder_claimed_at.timestamp()
            friends.append(friend)
        return friends

    def timers_left(self) -> int:
        return sum(get_timer(referral.timer_name) is not None for referral in self.referrals)

    def _refer(self) -> None:
        number = len(self.referrals)
        delay = random.uniform(*self.delays)
        referral = services.refer(f"Customer {number % 17}", f"+1555{number:07}", delay=delay)
        timer = get_timer(referral.timer_name)
        if timer is None or timer.due is None:
            raise DemoError(f"{referral.timer_name} has no timer right after it was referred")
        due = timer.due.timestamp()
        self.referrals.append(referral)
        self._timers.append((timer.id, due))
        fate = random.random()
        if fate < IN_TIME:
            heapq.heappush(self._sign_ups, (due - delay * random.uniform(0.1, 0.8), number))
        elif fate < IN_TIME + AT_THE_LAST_MOMENT:
            heapq.heappush(self._sign_ups, (due + random.uniform(-0.02, 0.04), number))

    def _open(self) -> QuerySet[Referral]:
        undecided, claimed = Q(signed_up_at=None), Q(reminder_claimed_at__isnull=False)
        return Referral.objects.filter(undecided | claimed, reminded_at=None)

    def _step(self) -> None:
        self.processes.check()
        if self.display.is_due:
            self.display.show(
                self.total,
                scheduled=len(self.referrals),
                cancelled=self._signed_up,
                fired=len(self.queue.fired),
                texts=ask_gateway("/stats")["messages"],
            )


def ask_gateway(path: str) -> Any:
    with urlopen(settings.SMS_GATEWAY_URL + path, timeout=10) as response:
        return json.load(response)
