"""The teller: tells of timers that their guards called off, beside the dispatcher.

It speaks to the broker and perhaps to the result backend, and Celery waits where these are away. Timers must
not wait with it.
"""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Sequence
from typing import Any

from celery_redis_expiry.changing import tell_cancelled
from celery_redis_expiry.keys import label_of
from celery_redis_expiry.logs import log_fields
from celery_redis_expiry.store import CalledOff
from celery_redis_expiry.timer import shown
from celery_redis_expiry.worker.loop import Loop
from celery_redis_expiry.worker.reporting.figures import Figures

logger = logging.getLogger(__name__)

#: How many batches wait here at most; of what comes beyond nobody is told.
BATCHES = 1000
#: Seconds of a wait for work, and for what is still to be told when the worker stops.
PATIENCE, PARTING = 60.0, 1.0
REASON = "the timer's guard called it off"


class Teller(Loop):
    """One pass: tell of one batch.

    Arguments:
        figures: that count what was called off.
    """

    name = "teller"

    def __init__(self, app: Any, figures: Figures) -> None:
        super().__init__()
        self._app = app
        self._figures = figures
        self._batches: queue.Queue[list[str]] = queue.Queue(BATCHES)

    def called_off(self, timers: Sequence[CalledOff]) -> None:
        """These were forgotten instead of fired."""
        if not timers:
            return
        self._figures.called_off(len(timers))
        for timer in timers:
            label = shown(label_of(timer.member))
            logger.debug(
                "expiry: the guard of timer %s called it off",
                label,
                extra=log_fields("called_off", timer=label, task_id=shown(timer.id)),
            )
        # what the broker may have from an earlier attempt may have run
        self._put([timer.id for timer in timers if not timer.unsure])

    def _put(self, ids: list[str]) -> None:
        try:
            self._batches.put_nowait(ids)
        except queue.Full:
            logger.warning(
                "expiry: monitors and the result backend are not told of %d timers that their guards called "
                "off: too many wait for that. Remedy: see whether the broker or the result backend is away",
                len(ids),
                extra=log_fields("called_off_not_told", count=len(ids)),
            )

    def one_pass(self) -> None:
        try:
            ids = self._batches.get(timeout=PATIENCE)
        except queue.Empty:
            return
        tell_cancelled(self._app, ids, REASON)

    def interrupt(self) -> None:
        self._put([])

    def close(self) -> None:
        deadline = time.monotonic() + PARTING
        while time.monotonic() < deadline and not self._batches.empty():
            self.one_pass()
