"""How much the fuzz tests try: FUZZ=long for many more examples, and failures shrunk to their smallest."""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck, Phase, settings

LONG = os.environ.get("FUZZ") == "long"


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
