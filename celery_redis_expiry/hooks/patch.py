"""Wrapping a method of Celery's, once, and only where it is what we take it for."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import celery


def wrap(owner: type, name: str, parameters: Sequence[str], wrapper: Callable[..., Any]) -> None:
    """Put `wrapper(original, …)` in the place of a method. Repeating it does no harm.

    Arguments:
        parameters: the names of the method's first parameters, as the wrapper reckons with them.

    Raises:
        ImportError: there is no such method with these parameters.
    """
    original = owner.__dict__.get(name)
    if getattr(original, "_wrapped_by", None) == __name__:
        return
    known = list(inspect.signature(original).parameters) if original else []
    if original is None or known[: len(parameters)] != list(parameters):
        raise ImportError(
            f"celery-redis-expiry does not know Celery {celery.__version__}: {owner.__qualname__}.{name}"
            f"({', '.join(parameters)}, …) is not there. Install a Celery that it names as a dependency"
        )

    @functools.wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return wrapper(original, *args, **kwargs)

    wrapped._wrapped_by = __name__  # type: ignore[attr-defined]
    setattr(owner, name, wrapped)
