"""Speed lives here, not in the tests: ratios against a peer or a limit, measured in the same run."""

from __future__ import annotations

import sys
from pathlib import Path

# the workers' app of the acceptance tests serves the benchmarks as well
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "apps"))
