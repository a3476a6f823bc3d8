"""Speed lives here, not in the tests: ours, every peer's and the limit's, measured in the same run."""
