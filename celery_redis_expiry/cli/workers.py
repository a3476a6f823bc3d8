"""What the expiry workers say of themselves, asked over the broker as `celery inspect stats` asks."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

logger = logging.getLogger(__name__)

Answers = dict[str, "dict[str, Any] | None"]


def asked(app: Any, workers: Iterable[str], timeout: float) -> Answers:
    """The `expiry` block of each of these workers; None for one that did not answer.

    Arguments:
        workers: node names, as they announced themselves in Redis.
        timeout: seconds; 0 asks none. A broker that is away is no error: the answers are missing.
    """
    answers: Answers = dict.fromkeys(workers)
    if not answers or not timeout:
        return answers
    try:
        inspect = app.control.inspect(destination=list(answers), timeout=timeout, limit=len(answers))
        replies = inspect.stats() or {}
    except Exception as exc:
        logger.warning("expiry: the workers could not be asked over the broker: %r", exc)
        return answers
    for name, reply in replies.items():
        block = reply.get("expiry") if isinstance(reply, dict) else None
        if name in answers and isinstance(block, dict):
            answers[name] = block
    return answers
