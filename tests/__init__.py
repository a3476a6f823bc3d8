"""Tests: unit (no server), integration (real Redis), acceptance (real workers, real kills)."""
