"""What becomes of a timer that fires in a test: its task runs here, or its message goes to the broker."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from celery import signals, states
from celery.app.task import Context
from celery.app.trace import build_tracer
from celery.exceptions import Retry
from celery.result import EagerResult, ResultSet
from celery.utils.nodenames import gethostname

from celery_redis_expiry.eager import at_once
from celery_redis_expiry.hooks.finished import finish
from celery_redis_expiry.messages import apply_canvas, message
from celery_redis_expiry.store import Store
from celery_redis_expiry.testing.seen import Call
from celery_redis_expiry.timer import Stored

#: Seconds for which a worker is waited for that tells of nothing.
PATIENCE = 10.0
#: Seconds between two looks at what signals do not tell of.
LOOK = 0.05

#: The state of a task, and its result.
Outcome = tuple[str | None, Any]


class Here:
    """Runs tasks in the process of the test, and whatever these send: as with `task_always_eager`.

    Results go to the result backend where that is in memory, or `task_store_eager_result` says so.
    """

    def __init__(self, app: Any) -> None:
        self._app = app

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is run within that is done at its end."""
        yield

    def run(self, stored: Stored, call: Call, due: int) -> Outcome:
        with at_once(self._app, True):
            if call.canvas is not None:
                return _outcome_of(apply_canvas(stored.content, self._app))
            return self._run(stored, call, due)

    def outcome(self, id: str, outcome: Outcome) -> Outcome:
        return outcome

    def _run(self, stored: Stored, call: Call, due: int) -> Outcome:
        app = self._app
        _, arguments = message(stored.content, due, app)
        task = app.tasks[stored.content["task"]]
        request = {
            **arguments["headers"],
            "id": stored.id,
            "task": task.name,
            "args": call.args,
            "kwargs": call.kwargs,
            "is_eager": True,
            "hostname": gethostname(),
            "reply_to": arguments.get("reply_to"),
            "correlation_id": arguments.get("correlation_id"),
            "delivery_info": {
                "is_eager": True,
                "exchange": arguments.get("exchange"),
                "routing_key": arguments.get("routing_key"),
                "priority": arguments.get("priority"),
                "redelivered": False,
            },
            **call.embed,
        }
        traced = build_tracer(task.name, task, eager=True, app=app)(
            stored.id, call.args, call.kwargs, request
        )
        state = states.SUCCESS if traced.info is None else traced.info.state
        result = traced.retval if traced.info is None else traced.info.retval
        if isinstance(result, Retry) and result.sig is not None:
            # nearer than what becomes a timer
            state, result = _outcome_of(result.sig.apply(retries=request.get("retries", 0) + 1))
            if state in states.READY_STATES:
                # run at once a retry knows no headers, by which the signal tells that an occurrence has ended
                finish(task, Context(request), stored.id)
        if not request.get("ignore_result") and _in_memory(app):
            app.backend.store_result(stored.id, result, state)
        if state == states.FAILURE and app.conf.task_eager_propagates:
            raise result
        return state, result


def _in_memory(app: Any) -> bool:
    return str(app.conf.result_backend or "").startswith(("cache+memory", "memory"))


def _outcome_of(result: Any) -> Outcome:
    if isinstance(result, EagerResult):
        return result.state, result.result
    if isinstance(result, ResultSet):
        outcomes = [_outcome_of(each) for each in result.results]
        known = {state for state, _ in outcomes}
        state = next((each for each in (None, states.FAILURE, states.RETRY) if each in known), states.SUCCESS)
        return state, [value for _, value in outcomes]
    # the rest of a chain waits as a timer
    return None, None


class Worker:
    """Publishes messages to the app's broker, and waits until a worker has done all that was sent meanwhile.

    A worker in this process (`celery_worker`) tells by signals; of one elsewhere the result backend is asked.
    """

    def __init__(self, app: Any, store: Store) -> None:
        self._app = app
        self._store = store
        self._told = threading.Condition()
        self._sent: Counter[str] = Counter()
        self._done: Counter[str] = Counter()
        self._outcomes: dict[str, Outcome] = {}

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is run within that is done at its end.

        Raises:
            TimeoutError: a worker has not done it.
        """
        self._outcomes.clear()
        signals.after_task_publish.connect(self._note_sent)
        signals.task_postrun.connect(self._note_done)
        try:
            yield
            self._wait()
        finally:
            signals.task_postrun.disconnect(self._note_done)
            signals.after_task_publish.disconnect(self._note_sent)
            self._sent.clear()
            self._done.clear()

    def run(self, stored: Stored, call: Call, due: int) -> Outcome:
        if call.canvas is not None:
            apply_canvas(stored.content, self._app)
            return None, None
        body, arguments = message(stored.content, due, self._app)
        with self._told:
            self._sent[stored.id] += 1
        with self._app.producer_or_acquire() as producer:
            producer.publish(body, **arguments)
        return None, None

    def outcome(self, id: str, outcome: Outcome) -> Outcome:
        """What is known of a task, now that it is done."""
        return self._outcomes.pop(id, outcome)

    def _note_sent(self, headers: Any = None, body: Any = None, **_: Any) -> None:
        id = str((headers or {}).get("id") or body["id"])
        with self._told:
            self._sent[id] += 1

    def _note_done(self, task_id: str = "", state: Any = None, retval: Any = None, **_: Any) -> None:
        with self._told:
            self._done[task_id] += 1
            self._outcomes[task_id] = state, retval
            self._told.notify_all()

    def _wait(self) -> None:
        # not by a clock: freezegun freezes every one
        idle = 0.0
        with self._told:
            while waiting := self._on_their_way():
                if idle > PATIENCE:
                    raise TimeoutError(
                        f"no worker has done {', '.join(waiting)} within {PATIENCE:.0f} s: is one running "
                        "that takes from their queue (the fixture celery_worker, say)? Without one: "
                        '@pytest.mark.expiry(run="here")'
                    )
                if not self._told.wait(LOOK):
                    idle += LOOK

    def _on_their_way(self) -> Sequence[str]:
        open = [id for id, sent in self._sent.items() if self._done[id] < sent]
        if not open:
            return ()
        # what became a timer has told of its message, and never sent it
        timers = Counter(self._store.waiting_of(open))
        return [id for id in open if self._sent[id] - timers[id] > self._done[id] and not self._is_ready(id)]

    def _is_ready(self, id: str) -> bool:
        if self._done:
            # a worker in this process tells everything
            return False
        try:
            known = self._app.backend.get_task_meta(id)
        except (AttributeError, NotImplementedError):
            return False  # no result backend
        if known["status"] not in states.READY_STATES:
            return False
        # its own signal may be about to come
        self._outcomes.setdefault(id, (known["status"], known["result"]))
        return True
