"""This package, by its public interface alone."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.peers.base import SECOND, Item, moment
from benchmarks.peers.celery_countdown import CeleryAdapter
from celery_redis_expiry import schedule_many_on_expiry, schedule_on_expiry


class Peer(CeleryAdapter):
    bulk = True

    def schedule(self, items: Sequence[Item]) -> None:
        for label, at in items:
            schedule_on_expiry(self.task.s(label, SECOND).set(queue=self.queue), at=moment(at))

    def schedule_many(self, items: Sequence[Item]) -> None:
        summary = schedule_many_on_expiry(
            {"signature": self.task.s(label, SECOND).set(queue=self.queue), "at": moment(at)}
            for label, at in items
        )
        if summary.errors:
            raise summary.errors[0].error

    def enqueue(self, label: str) -> None:
        # by way of the expiry worker, so that both kinds of worker are known to be up
        schedule_on_expiry(self.task.s(label, SECOND).set(queue=self.queue), seconds=0)

    def options(self, role: str) -> list[str]:
        return ["-P", "expiry"] if role.startswith("expiry") else super().options(role)
