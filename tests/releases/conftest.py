"""Sites with real workers, as the acceptance tests have them."""

from __future__ import annotations

from tests.acceptance.conftest import (
    common_site,
    idle_site,
    make_site,
    ordinary_worker,
    site,
)

__all__ = ["common_site", "idle_site", "make_site", "ordinary_worker", "site"]
