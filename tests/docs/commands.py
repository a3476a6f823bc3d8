"""The rules for the commands of shell blocks: what is run for real, and how the rest is checked.

`python -m tests.docs.commands SOCKET` is the process behind the doors of `shell.Shell`; it forks for each.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.docs import deploying, example

Rule = Callable[[list[str]], int]
REPOSITORY = Path(__file__).resolve().parents[2]


def celery(arguments: list[str]) -> int:
    """Run for real. What goes on for ever or asks workers is checked by Celery's own parser, not begun."""
    from celery.__main__ import main
    from celery.bin import control
    from celery.bin.celery import celery as group

    def begin(*_: Any, **__: Any) -> None:
        """Nothing: the arguments were good."""

    commands = {**group.commands, **group.commands["expiry"].commands}
    for name in {"worker", "beat", "events", "flower", "status", "watch"} & commands.keys():
        commands[name].callback = begin
    for name in ("inspect", "control"):
        commands[name].callback = lambda *_, kind=name, **given: control._verify_command_name(
            kind, given["command"]
        )
    sys.argv = ["celery", *arguments]
    try:
        main()
    except SystemExit as end:
        # the doctor of a page finds that nothing runs here, and says so: that is its work
        return 0 if "doctor" in arguments and end.code == 1 else _code(end)
    return 0


def redis_cli(arguments: list[str]) -> int:
    """Executed on the test's Redis: there must be an answer worth showing. `<…>` is the timer cart:7."""
    import redis

    with redis.Redis.from_url(os.environ["PROJ_REDIS"], decode_responses=True) as client:
        answer = client.execute_command(*[_filled(client, argument) for argument in arguments])
    print(answer)
    return 0 if answer and answer != -2 else _fail(f"redis-cli {arguments} answers {answer!r}")


def _filled(client: Any, argument: str) -> str:
    if argument == "…":  # the key that the example's last answer told
        return example.told("timer_key")
    prefix, placeholder, _ = argument.partition("<")
    if not placeholder:
        return argument
    namespace = prefix.partition(":")[0]
    return prefix + str(client.hget(f"{namespace}:names", "cart:7"))


def make(arguments: list[str]) -> int:
    """The target must be there, and its recipe must come together: a dry run."""
    command = ["make", "--dry-run", "--directory", str(REPOSITORY), *arguments]
    return os.spawnvpe(os.P_WAIT, "make", command, {**os.environ, "PATH": os.defpath})


RULES: dict[str, Rule] = {
    "celery": celery,
    "redis-cli": redis_cli,
    "make": make,
    "python": example.python,
    "pip": deploying.pip,
    "docker": deploying.docker,
    "curl": example.curl,
    "systemctl": deploying.systemctl,
    "journalctl": deploying.journalctl,
    "kubectl": deploying.kubectl,
    "sudo": lambda arguments: RULES[arguments[0]](arguments[1:]),
}


def _code(end: SystemExit) -> int:
    return end.code if isinstance(end.code, int) else int(end.code is not None)


def _fail(reason: str) -> int:
    print(reason, file=sys.stderr)
    return 1


def serve(path: str) -> None:
    """Answer one call after the other, each in a process of its own."""
    # what takes the time, once: Celery's commands with their plugins, ours among them
    for module in ("celery.bin.celery", "redis"):
        import_module(module)

    with socket.socket(socket.AF_UNIX) as door:
        door.bind(path)
        door.listen()
        while True:
            call, _ = door.accept()
            told, streams, *_ = socket.recv_fds(call, 1 << 16, 3)
            if os.fork() == 0:
                _answer(call, json.loads(told), streams)
            call.close()
            for stream in streams:
                os.close(stream)
            os.waitpid(-1, os.WNOHANG)  # the one before is over by now


def _answer(call: socket.socket, told: dict[str, Any], streams: list[int]) -> None:
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    code = 1
    try:
        os.chdir(told["folder"])
        os.environ.update(told["environment"])
        name, *arguments = told["command"]
        code = RULES[name](arguments)
    except SystemExit as end:
        code = _code(end)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        call.sendall(str(code).encode())
        os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1])
