"""The last ones of many, to be known again."""

from __future__ import annotations

from collections.abc import Iterable


class Remembered:
    """Some thousand texts, of which the oldest are forgotten.

    By the half: a dict from whose front one after the other is deleted is searched longer each time.

    Arguments:
        least: how many of the last ones are known for certain.
    """

    def __init__(self, least: int) -> None:
        self._least = least
        self._last: set[str] = set()
        self._before: set[str] = set()

    def add(self, texts: Iterable[str]) -> None:
        self._last.update(texts)
        if len(self._last) >= self._least:
            self._before, self._last = self._last, set()

    def __contains__(self, text: str) -> bool:
        return text in self._last or text in self._before
