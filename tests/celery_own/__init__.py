"""Celery's own integration tests, unchanged, without us and with every countdown a timer: see __main__."""
