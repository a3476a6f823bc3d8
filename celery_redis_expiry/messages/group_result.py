"""The result of a group that has not been applied yet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from celery.result import GroupResult


class WaitingGroupResult(GroupResult):
    """A GroupResult that subscribes to its members when it is asked to wait for them.

    Celery's subscribes when it is made, and keeps that up until the members have run: days, here.
    """

    def iter_native(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        self._subscribe()
        members: Iterator[Any] = super().iter_native(*args, **kwargs)
        return members

    def then(self, *args: Any, **kwargs: Any) -> Any:
        self._subscribe()
        return super().then(*args, **kwargs)

    def _subscribe(self) -> None:
        for member in self.results:
            if isinstance(member, WaitingGroupResult):
                member._subscribe()
            elif hasattr(member, "backend"):
                member.backend.add_pending_result(member, weak=True)
