"""A file as old as this worker's last heartbeat: what the health check in docker-compose.yml looks at.

A worker sends a heartbeat every two seconds, as long as its loop turns and it is connected to its broker.
"""

import os
from pathlib import Path

from celery.signals import heartbeat_sent


def _touch(**_: object) -> None:
    Path(os.environ["WORKER_HEARTBEAT_FILE"]).touch()


if "WORKER_HEARTBEAT_FILE" in os.environ:
    heartbeat_sent.connect(_touch)
