"""Connections that stay taken between scripts are used again only where nothing can be on its way."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError, ResponseError, TimeoutError
from redis.retry import Retry

from celery_redis_expiry.blocking import Begun, run
from celery_redis_expiry.connections import Held, Location, can_hold, held

pytestmark = pytest.mark.skipif(
    not can_hold(Location("redis://")), reason="this redis-py is too old for it: none are held"
)


class Connection:
    """Answers in turn; what is an exception it raises."""

    def __init__(self, answers: list[Any]) -> None:
        self.retry = Retry(NoBackoff(), 7)  # type: ignore[no-untyped-call]
        self.answers = answers
        self.sent: list[Any] = []
        self.connected = True

    def send_command(self, *command: Any) -> None:
        self.connected = True
        self.sent.append(command)

    def read_response(self) -> Any:
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def disconnect(self) -> None:
        self.connected = False


class Client:
    """One whose pool gives away a new connection each time, as one does whose connections are all taken."""

    def __init__(self, *answers: Any) -> None:
        self.connection_pool = self
        self.answers = list(answers)
        self.given: list[Connection] = []
        self.released: list[Connection] = []

    def get_connection(self) -> Connection:
        self.given.append(Connection(self.answers))
        return self.given[-1]

    def release(self, connection: Connection) -> None:
        self.released.append(connection)

    def execute_command(self, *command: Any) -> str:
        return "by redis-py"


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens, whatever other tests instrument."""
    monkeypatch.setattr(held, "is_heard", lambda: False)


def test_one_connection_after_the_other_command() -> None:
    client = Client(1, ResponseError("no script"), 3)
    connections = Held(client, 2)
    assert run(connections.execute("a")) == 1
    with pytest.raises(ResponseError):
        run(connections.execute("b"))
    assert run(connections.execute("c")) == 3
    assert [each.sent for each in client.given] == [[("a",), ("b",), ("c",)]]
    assert client.released == []


def test_two_commands_on_their_way_have_two_connections() -> None:
    client = Client(1, 2)
    connections = Held(client, 2)
    first, second = Begun(connections.execute("a")), Begun(connections.execute("b"))
    assert [each.sent for each in client.given] == [[("a",)], [("b",)]]
    assert (first.end(), second.end()) == (1, 2)
    connections.give_back()
    assert {id(each) for each in client.released} == {id(each) for each in client.given}
    connections.give_back()
    assert len(client.released) == 2


@pytest.mark.parametrize("lost", [ConnectionError(), TimeoutError()])
def test_a_lost_answer_is_asked_for_again(lost: Exception) -> None:
    client = Client(lost, lost, 1, 2)
    connections = Held(client, 2)
    assert run(connections.execute("a")) == 1
    assert run(connections.execute("b")) == 2
    assert [each.sent for each in client.given] == [[("a",), ("a",), ("a",), ("b",)]]


def test_as_often_as_redis_py_would() -> None:
    client = Client(*[ConnectionError()] * 9)
    with pytest.raises(ConnectionError):
        run(Held(client, 2).execute("a"))
    assert client.given[0].sent == [("a",)] * 3
    assert client.released == client.given
    assert not client.given[0].connected


def test_an_answer_that_was_lost_long_ago_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis may have forgotten what it answered, and would do it once more."""
    monkeypatch.setattr(held, "PATIENCE", -1.0)
    client = Client(ConnectionError())
    with pytest.raises(ConnectionError):
        run(Held(client, 2).execute("a"))
    assert client.given[0].sent == [("a",)]
    assert client.released == client.given


@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), RuntimeError("a timeout of the caller's")])
def test_an_interrupted_command_takes_its_connection_along(interruption: BaseException) -> None:
    client = Client(interruption, 2)
    connections = Held(client, 2)
    with pytest.raises(type(interruption)):
        run(connections.execute("a"))
    assert not client.given[0].connected
    assert run(connections.execute("b")) == 2
    assert client.given[1].sent == [("b",)]


def test_a_command_that_nobody_brings_to_its_end_does_the_same() -> None:
    client = Client(1, 2)
    connections = Held(client, 2)
    begun = Begun(connections.execute("a"))
    del begun
    assert not client.given[0].connected
    assert client.released == client.given
    assert run(connections.execute("b")) == 1
    assert client.given[1].sent == [("b",)]


def test_another_process_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(1, 2)
    connections = Held(client, 2)
    run(connections.execute("a"))
    monkeypatch.setattr("os.getpid", lambda: -1)
    run(connections.execute("b"))
    assert [each.sent for each in client.given] == [[("a",)], [("b",)]]
    assert client.given[0].connected


def test_who_listens_hears_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    client = Client(1)
    monkeypatch.setattr(redis.Redis, "execute_command", lambda *command: None)
    assert held.is_heard()
    assert run(Held(client, 2).execute("a")) == "by redis-py"
    assert client.given == []


@pytest.mark.parametrize(
    "location",
    [
        Location("sentinel://", sentinels=(("localhost", 26379),)),
        Location("cluster://", cluster=(("localhost", 7000),)),
        Location("redis://", options={"credential_provider": object()}),
    ],
)
def test_where_connections_change_between_commands_none_are_held(location: Location) -> None:
    assert not can_hold(location)


def test_who_has_waited_long_does_not_ask_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer to the first attempt may be forgotten by then: asked again, it is another call."""
    now = [0.0]
    monkeypatch.setattr(held.time, "monotonic", lambda: now[0])
    client = Client(TimeoutError(), TimeoutError(), "done twice")
    connections = Held(client, 3)
    send = Connection.send_command

    def slowly(self: Connection, *command: Any) -> None:
        now[0] += held.PATIENCE * 0.6
        send(self, *command)

    monkeypatch.setattr(Connection, "send_command", slowly)
    with pytest.raises(TimeoutError):
        run(connections.execute("a"))
    assert len(client.given[0].sent) == 2
