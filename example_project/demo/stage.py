"""What the story needs around it: a Redis, an SMS gateway, the database, and the two workers."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

from demo import redis_server
from demo.display import Display
from demo.processes import DemoError, Processes, free_ports
from demo.queue_watch import QueueWatch

EXAMPLE = Path(__file__).resolve().parent.parent
WORKERS = {
    "expiry worker": "celery -A shop worker -P expiry -n expiry@%h -l INFO",
    "worker": "celery -A shop worker -P threads -c 4 -n worker@%h -l INFO",
}


def find_parts() -> tuple[Path, str]:
    """The redis-server to run, and its version; DemoError where that or a package is missing."""
    missing = [name for name in ("django", "celery", "celery_redis_expiry") if find_spec(name) is None]
    if missing:
        raise DemoError(
            f"{', '.join(missing)}: not installed. `make demo` does it, or pip install '.[example]'."
        )
    return redis_server.find(EXAMPLE.parent)


def set_up(
    server: Path, folder: Path, gateway_options: str, processes: Processes, display: Display
) -> QueueWatch:
    """Start everything, all data in `folder`, and make this process the web part of the shop."""
    redis_port, gateway_port = free_ports(2)
    env = _environment(folder, redis_port, gateway_port)
    redis = redis_server.command(server, redis_port, folder)
    display.say(f"redis          port {redis_port}, {server}")
    processes.start("redis", redis, ready="Ready to accept connections", env=env)
    queue = QueueWatch(redis_port)
    queue.start()
    gateway = f"gateway.py --port {gateway_port} {gateway_options}"
    display.say(f"SMS gateway    port {gateway_port}, {gateway}")
    processes.start("gateway", [sys.executable, *gateway.split()], ready="SMS gateway on", env=env)
    os.environ.clear()
    os.environ.update(env)
    _set_up_django()
    for name, worker in WORKERS.items():
        display.say(f"{name:14} {worker}")
        processes.start(name, [sys.executable, "-m", *worker.split()], ready=" ready.", env=env)
    return queue


def _environment(folder: Path, redis_port: int, gateway_port: int) -> dict[str, str]:
    """For every process of the demo: nobody's broker but its own, and no proxy on the way to the gateway."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("CELERY", "DJANGO"))}
    return env | {
        "DJANGO_SETTINGS_MODULE": "shop.settings",
        "REDIS_URL": f"redis://127.0.0.1:{redis_port}/0",
        "BROKER_URL": f"redis://127.0.0.1:{redis_port}/0",
        "DB_PATH": str(folder / "shop.sqlite3"),
        "SMS_GATEWAY_URL": f"http://127.0.0.1:{gateway_port}",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
        "PYTHONUNBUFFERED": "1",
    }


def _set_up_django() -> None:
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
