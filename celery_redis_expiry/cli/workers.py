"""What the expiry workers say of themselves, asked over the broker as `celery inspect stats` asks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

#: By node name; None for a worker that does not answer.
Answers = dict[str, "dict[str, Any] | None"]


def asked(app: Any, workers: Iterable[str], timeout: float) -> tuple[Answers, str | None]:
    """The `expiry` block of each of these workers, and why they can't be asked, if so.

    Arguments:
        workers: node names, as they announced themselves in Redis.
        timeout: seconds; 0 asks none.
    """
    answers: Answers = dict.fromkeys(workers)
    if not answers or not timeout:
        return answers, None
    try:
        # kombu's connection to a Redis broker would wait for ever for one that hangs
        options = {"socket_timeout": timeout}
        with app.connection_for_write(connect_timeout=timeout, transport_options=options) as connection:
            # a broker that is away is not waited for as long as a task that is to be sent would wait
            connection.ensure_connection(
                max_retries=max(1, len(connection.alt)), interval_start=0, interval_step=0, timeout=timeout
            )
            inspect = app.control.inspect(
                destination=list(answers), timeout=timeout, limit=len(answers), connection=connection
            )
            replies = inspect.stats() or {}
    except Exception as exc:
        # the broker is away: what is counted in Redis is told all the same
        return answers, f"the workers can't be asked over the broker: {exc}"
    for name, reply in replies.items():
        block = reply.get("expiry") if isinstance(reply, dict) else None
        if name in answers and isinstance(block, dict):
            answers[name] = block
    return answers, None
