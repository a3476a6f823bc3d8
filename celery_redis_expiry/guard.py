"""A guard: keys of the user's own that say, once a timer is due, whether it may fire."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Guard:
    """What must be so for a timer to fire; each key is a condition of its own.

    Attributes:
        unless_exists: keys none of which may exist.
        only_if_exists: keys all of which must exist.
    """

    unless_exists: tuple[str, ...] = ()
    only_if_exists: tuple[str, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        return self.unless_exists + self.only_if_exists

    @property
    def signs(self) -> str:
        """For each key whether it must not exist, or must: as the claim script takes it."""
        return "-" * len(self.unless_exists) + "+" * len(self.only_if_exists)

    def allows(self, exists: Mapping[str, bool]) -> bool:
        """Whether the timer may fire, as far as is known which keys exist."""
        return not any(exists.get(key) for key in self.unless_exists) and all(
            exists.get(key, True) for key in self.only_if_exists
        )

    def encode(self) -> dict[str, list[str]]:
        """As it lies in the stored record, JSON-able."""
        both = {"unless_exists": self.unless_exists, "only_if_exists": self.only_if_exists}
        return {name: list(keys) for name, keys in both.items() if keys}

    @classmethod
    def decode(cls, stored: Any) -> Guard:
        """Raises ValueError for what `encode` did not write: a guard of which a part is not understood must
        not let a timer pass."""
        if not isinstance(stored, dict) or not stored or set(stored) - {"unless_exists", "only_if_exists"}:
            raise ValueError(f"its guard is {stored!r}")
        for keys in stored.values():
            if not isinstance(keys, list) or not keys or not all(isinstance(key, str) for key in keys):
                raise ValueError(f"its guard has the keys {keys!r}")
        return cls(**{name: tuple(keys) for name, keys in stored.items()})
