"""A private RabbitMQ node: own name, ports, data, cookie and epmd, so that nobody else's node is touched."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import amqp

from tests.servers.processes import Process, free_port
from tests.waiting import eventually

# The script itself, not the distribution's wrapper: that one changes to another user and its home.
PLACES = ("/usr/lib/rabbitmq/bin", "/usr/local/sbin", "/opt/rabbitmq/sbin")


def find_server() -> Path | None:
    """The rabbitmq-server script, None where RabbitMQ (or Erlang's epmd) is not installed."""
    if not shutil.which("epmd"):
        return None
    for place in PLACES:
        script = Path(place, "rabbitmq-server")
        if script.exists():
            return script
    on_path = shutil.which("rabbitmq-server")
    return Path(on_path) if on_path else None


class RabbitMQServer:
    """One node on free ports; `start` returns once it takes AMQP connections.

    Arguments:
        environment: what RabbitMQ reads from its environment besides, such as RABBITMQ_DEFAULT_USER.
    """

    def __init__(self, script: Path, environment: Mapping[str, str] | None = None) -> None:
        self.script = script
        self.environment = dict(environment or {})
        self.folder = Path(tempfile.mkdtemp(prefix="expiry-rabbitmq-"))
        self.port = free_port()
        self.epmd_port = free_port()
        self.dist_port = free_port()
        self.epmd: Process | None = None
        self.node: Process | None = None

    def url(self, port: int | None = None) -> str:
        return f"amqp://guest:guest@127.0.0.1:{port or self.port}//"

    def start(self) -> RabbitMQServer:
        # In the foreground: a child we can end, where `epmd -daemon` would stay behind for ever.
        epmd = shutil.which("epmd") or "epmd"
        env = {**os.environ, "ERL_EPMD_PORT": str(self.epmd_port), "ERL_EPMD_ADDRESS": "127.0.0.1"}
        self.epmd = Process([epmd, "-port", str(self.epmd_port)], log=self.folder / "epmd.log", env=env)
        (self.folder / "enabled_plugins").write_text("[].\n")
        (self.folder / "rabbitmq.conf").write_text("loopback_users = none\ndisk_free_limit.absolute = 10MB\n")
        (self.folder / "rabbitmq-env.conf").write_text("")
        env |= {
            "HOME": str(self.folder),  # the Erlang cookie is made there
            "RABBITMQ_NODENAME": f"expiry{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self.dist_port),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(self.folder / "rabbitmq-env.conf"),
            "RABBITMQ_PID_FILE": str(self.folder / "node.pid"),
            # Few schedulers and no busy waiting: the machine is shared with what is being tested.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none",
            **self.environment,
        }
        self.node = Process([str(self.script)], log=self.folder / "node.log", env=env, cwd=self.folder)
        eventually(self._answers, timeout=60, every=0.2, what=lambda: f"RabbitMQ ready\n{self.tail()}")
        return self

    def _answers(self) -> bool:
        if self.node is None or not self.node.running:
            raise AssertionError(f"RabbitMQ ended at its start\n{self.tail()}")
        connection = amqp.Connection(
            f"127.0.0.1:{self.port}",
            userid=self.environment.get("RABBITMQ_DEFAULT_USER", "guest"),
            password=self.environment.get("RABBITMQ_DEFAULT_PASS", "guest"),
            connect_timeout=2,
            read_timeout=5,
        )
        try:
            connection.connect()
            connection.close()
        except (OSError, amqp.AMQPError):
            return False
        return True

    def control(self, *arguments: str) -> None:
        """`rabbitmqctl` for this node."""
        self.run_tool("rabbitmqctl", *arguments)

    def run_tool(self, name: str, *arguments: str) -> None:
        """One of RabbitMQ's commands for this node; CalledProcessError if it fails."""
        tool = shutil.which(name, path=str(self.script.parent)) or name
        command = [tool, "-n", f"expiry{self.port}@localhost", *arguments]
        env = {
            **os.environ,
            "HOME": str(self.folder),
            "ERL_EPMD_PORT": str(self.epmd_port),
            "RABBITMQ_CONF_ENV_FILE": str(self.folder / "rabbitmq-env.conf"),
        }
        subprocess.run(command, env=env, check=True, capture_output=True, timeout=60)

    def stop(self) -> None:
        for process in (self.node, self.epmd):
            if process is not None:
                process.stop(20)
        self.node = self.epmd = None

    def tail(self) -> str:
        return self.node.tail(40) if self.node else ""

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
