"""Integration tests: the public interface against real Redis servers of several versions."""
