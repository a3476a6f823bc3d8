"""How long to wait after failures: doubled each time, between two bounds."""

from __future__ import annotations

#: Seconds for what Redis does not answer.
STORE = (0.1, 5.0)


def backoff(bounds: tuple[float, float], failures: int) -> float:
    """Seconds to wait now.

    Arguments:
        bounds: the first wait and the longest, seconds.
        failures: how many there were before this one.
    """
    return min(bounds[1], bounds[0] * 2.0 ** min(failures, 20))
