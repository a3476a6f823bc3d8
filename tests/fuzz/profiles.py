"""How much the fuzz tests try: with FUZZ=long many more examples, in up to hours.

Nothing is shrunk: an example takes seconds, and the first failure is told with what repeats it.
"""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck, Phase, settings

LONG = os.environ.get("FUZZ") == "long"
#: Seconds that one test may take.
LIMIT = 7200 if LONG else 120


def effort(examples: int, long: int, **more: Any) -> settings:
    """Settings for one test: so many examples, printed with what repeats them (`@reproduce_failure`)."""
    phases = {Phase.explicit, Phase.generate}
    return settings(
        max_examples=long if LONG else examples,
        deadline=None,
        print_blob=True,
        database=None,
        phases=phases,
        suppress_health_check=list(HealthCheck),
        **more,
    )
