"""What becomes of recurring timers that are due: each an occurrence, and armed for its next instant."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from celery_redis_expiry.logs import log_fields
from celery_redis_expiry.messages import occurrence
from celery_redis_expiry.recurring import Instants, NoInstant
from celery_redis_expiry.store import Rearm, Recurs, Shard
from celery_redis_expiry.timer import Undecodable, shown
from celery_redis_expiry.worker.reporting.figures import Figures

logger = logging.getLogger(__name__)


class Recurrence:
    """Used by one thread.

    Arguments:
        app: whose time zone schedules are in.
        figures: that count what was skipped and missed.
    """

    def __init__(self, app: Any, figures: Figures) -> None:
        self._app = app
        self._figures = figures

    def occurrences(
        self, shard: Shard, due: Sequence[Recurs]
    ) -> tuple[list[tuple[str, bool]], dict[Recurs, str]]:
        """Arm recurring timers for their next instants.

        Returns:
            The members of their occurrences, to be claimed, each with whether an event told; and the timers
            that can't go on, with why.
        """
        rearms, broken = [], {}
        for recurs in due:
            try:
                rearms.append(self._rearm(shard, recurs))
            except (Undecodable, NoInstant) as exc:
                broken[recurs] = str(exc)
            except Exception as exc:
                broken[recurs] = f"no occurrence can be made of the stored message: {exc!r}"
        made = []
        for rearm, (outcome, about) in zip(rearms, shard.recur(rearms), strict=True):
            if outcome == "fired":
                made.append((about, rearm.recurs.expired))
                self._tell_missed(rearm)
            elif outcome == "skipped":
                self._tell_skipped(rearm, about)
                self._tell_missed(rearm)
        return made, broken

    def _rearm(self, shard: Shard, recurs: Recurs) -> Rearm:
        stored = recurs.stored
        if isinstance(stored, Undecodable):
            raise stored
        if stored.recurring is None:
            raise Undecodable("the stored message has no schedule")
        plan, state = stored.recurring.plan, stored.recurring.state
        due = Instants(plan.schedule, self._app).due(state.planned, recurs.due, recurs.now)
        own = occurrence(stored, recurs.label, shard.occurrence_id(), due.instant, due.missed, self._app)
        return Rearm(recurs, due, own)

    def _tell_missed(self, rearm: Rearm) -> None:
        missed = rearm.due.missed
        if not missed:
            return
        self._figures.missed(missed)
        logger.info(
            "expiry: %s missed %d occurrences; the one that is due now stands for them",
            shown(rearm.recurs.label),
            missed,
            extra=log_fields("missed", timer=shown(rearm.recurs.label), count=missed),
        )

    def _tell_skipped(self, rearm: Rearm, awaited: str) -> None:
        self._figures.skipped()
        logger.info(
            "expiry: %s: an occurrence was skipped, since the task of the last one, %s, is not known to have "
            "ended",
            shown(rearm.recurs.label),
            shown(awaited),
            extra=log_fields("skipped", timer=shown(rearm.recurs.label), task_id=shown(awaited)),
        )
