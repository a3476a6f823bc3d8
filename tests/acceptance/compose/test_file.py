"""docker-compose.yml against the Compose specification, and against this project's own rules for it."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.acceptance.compose.image import DOCKERFILE, stages
from tests.acceptance.compose.project import FILE, GUIDE, Project, Service, megabytes
from tests.servers.redis import REPOSITORY

PROJECT = Project({})
SERVICES = PROJECT.services
#: It writes its configuration from its environment, beside its data.
WRITES_ELSEWHERE = {"rabbitmq"}
#: What these tests heed of Compose, or leave to the engine. Any other key would go untried: teach it first.
KNOWN = {
    *("image", "build", "pull_policy", "command", "init", "environment", "hostname", "profiles"),
    *("depends_on", "restart", "stop_grace_period", "healthcheck", "deploy", "logging"),
    *("user", "cap_drop", "security_opt", "read_only", "tmpfs", "volumes", "ports"),
}

every = pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)
every_lasting = pytest.mark.parametrize(
    "service",
    [service for service in SERVICES.values() if not service.one_shot],
    ids=[name for name, service in SERVICES.items() if not service.one_shot],
)
every_worker = pytest.mark.parametrize("name", ["expiry-worker", "worker"])


def test_it_is_valid() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(FILE)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_part_is_there() -> None:
    always = {"redis", "migrate", "web", "expiry-worker", "worker", "flower", "gateway"}
    assert set(PROJECT.enabled()) == always
    assert set(PROJECT.enabled("rabbitmq")) == always | {"rabbitmq"}
    assert SERVICES["expiry-worker"].replicas >= 2
    assert SERVICES["worker"].replicas >= 2


@every
def test_nothing_goes_untried(service: Service) -> None:
    assert service.spec.keys() <= KNOWN
    assert service.deploy.keys() <= {"replicas", "resources"}


@every
def test_images_are_pinned(service: Service) -> None:
    images = [stage.base for stage in stages()] if service.is_ours else [service.spec["image"]]
    for image in images:
        assert re.search(r":\d", image), f"{image} may be another one tomorrow"


def test_our_image_is_built_from_our_dockerfile() -> None:
    build = SERVICES["migrate"].spec["build"]
    assert FILE.parent / build["context"] == REPOSITORY
    assert REPOSITORY / build["dockerfile"] == DOCKERFILE


@every
def test_our_image_is_built_once_before_it_is_used(service: Service) -> None:
    """Two builds of one tag at the same time fail where the tag is new."""
    builds = service.name == "migrate"
    assert ("build" in service.spec) is builds
    if service.is_ours:
        assert service.spec["pull_policy"] == "never"
        assert builds or "migrate" in service.depends_on


@every
def test_nobody_is_root(service: Service) -> None:
    user = stages()[-1].user if service.is_ours else service.spec["user"]
    assert user == service.spec.get("user", user)
    assert user.split(":")[0] not in ("root", "0")
    assert service.spec["cap_drop"] == ["ALL"]
    assert service.spec["security_opt"] == ["no-new-privileges:true"]
    assert service.spec.get("read_only", False) is (service.name not in WRITES_ELSEWHERE)
    assert service.spec.get("tmpfs", []) == (["/tmp"] if service.is_ours else [])


@every_lasting
def test_who_lasts_is_restarted_and_watched(service: Service) -> None:
    assert service.spec["restart"] == "unless-stopped"
    # without init a program is process 1: signals it has no handler for do nothing, and it must reap orphans
    assert service.spec.get("init", False) is service.is_ours
    assert service.healthcheck.keys() >= {"test", "interval", "timeout", "start_period", "retries"}


@every_lasting
def test_nobody_takes_all_memory(service: Service) -> None:
    assert megabytes(service.deploy["resources"]["limits"]["memory"]) > 0


def test_redis_is_told_not_to_evict() -> None:
    """It is the default of today, and a reader must find it."""
    assert "--maxmemory-policy noeviction" in SERVICES["redis"].command


def test_redis_has_room_for_rewriting_its_file() -> None:
    """A fork may copy as much as there is; who goes beyond the limit is killed."""
    redis = SERVICES["redis"]
    [most] = [option.split()[1] for option in redis.command if option.startswith("--maxmemory ")]
    assert megabytes(redis.deploy["resources"]["limits"]["memory"]) >= 2 * megabytes(most)


@every
def test_logs_end(service: Service) -> None:
    assert service.spec["logging"]["driver"] == "local"
    assert service.spec["logging"]["options"].keys() == {"max-size", "max-file"}


@every
def test_ports_are_for_this_machine(service: Service) -> None:
    assert {host for host, _, _ in service.ports} <= {"127.0.0.1"}


def test_ports_differ() -> None:
    ports = [outside for service in SERVICES.values() for _, outside, _ in service.ports]
    assert len(ports) == len(set(ports))


@every
def test_what_it_waits_for_can_come(service: Service) -> None:
    for name, condition in service.depends_on.items():
        other = SERVICES[name]
        assert set(other.profiles) <= set(service.profiles), f"{name} is not always there"
        assert condition == ("service_completed_successfully" if other.one_shot else "service_healthy")


@every
def test_volumes_are_declared(service: Service) -> None:
    assert set(service.mounts.values()) <= set(PROJECT.content["volumes"])


def test_data_lies_on_volumes() -> None:
    assert SERVICES["redis"].mounts == {"/data": "redis-data"}
    assert SERVICES["rabbitmq"].mounts == {"/var/lib/rabbitmq": "rabbitmq-data"}
    assert SERVICES["rabbitmq"].spec["hostname"], "its data is found again under the same node name only"
    assert {name for name, service in SERVICES.items() if "shop-data" in service.mounts.values()} == {
        "migrate",
        "web",
        "worker",
    }


@every_worker
def test_workers_have_names_of_their_own(name: str) -> None:
    worker = SERVICES[name]
    assert worker.is_worker
    assert "hostname" not in worker.spec
    assert worker.command[worker.command.index("-n") + 1].endswith("@%h")


@pytest.mark.parametrize("name", ["redis", "rabbitmq", "expiry-worker", "worker"])
def test_what_is_begun_may_be_finished(name: str) -> None:
    """Tasks, what is being published, and what goes to the disk at the end."""
    assert SERVICES[name].grace >= 60


def test_a_web_request_may_finish() -> None:
    assert SERVICES["web"].grace > 30, "gunicorn gives requests 30 s"


def test_the_guide_has_the_file_s_variables() -> None:
    guide = (REPOSITORY / GUIDE).read_text()
    names = set(re.findall(r"\$\{(\w+)", FILE.read_text()))
    rows = re.findall(r"^\| (`[A-Z].*?) \|", guide, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == names
    assert set(re.findall(r"^export (\w+)=", guide, re.MULTILINE)) <= names


@every
def test_what_it_is_told_is_read(service: Service) -> None:
    if service.is_ours:
        program = "".join(path.read_text() for path in (REPOSITORY / "example_project/shop").glob("*.py"))
        for name in service.environment:
            assert name.startswith("FLOWER_") or f'"{name}"' in program, f"nothing reads {name}"
