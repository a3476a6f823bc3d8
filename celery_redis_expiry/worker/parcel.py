"""A claimed timer on its way to the broker, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from celery_redis_expiry.timer import Claimed


@dataclass
class Parcel:
    """A claimed timer on its way to the broker.

    Attributes:
        outcome: `published`; `unsent` (certainly not published, try again); `unknown` (the connection was
            lost before the answer); `failed` (this message was not taken, try again later); `refused` (for
            good); `stalled` (the lease ended before it could be sent: it is no longer ours).
        reason: why it was not published.
    """

    content: dict[str, Any]
    due: int
    claim: Claimed
    outcome: str | None = None
    reason: str = ""

    def settle(self, outcome: str, reason: object = "") -> None:
        self.outcome, self.reason = outcome, str(reason) or repr(reason)
