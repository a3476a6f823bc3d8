"""Fuzz tests: random calls against a model, and random bytes in everything that is stored or heard."""
