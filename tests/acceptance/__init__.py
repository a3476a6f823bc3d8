"""Acceptance tests: real expiry workers, real ordinary workers, real brokers, real kills."""
