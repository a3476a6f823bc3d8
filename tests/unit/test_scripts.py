"""The scripts keep to their rules: a header that tells the truth, no key computed in Lua."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Any

import pytest
from redis.exceptions import NoScriptError, ResponseError

from celery_redis_expiry.connections import Location
from celery_redis_expiry.scripts import LYING, NAMES, PRELUDES, program, source
from celery_redis_expiry.store import Link

ALL_PRELUDES = (*PRELUDES, LYING)


def header(name: str) -> str:
    return "\n".join(line for line in source(name).splitlines() if line.startswith("--"))


def test_every_script_is_loaded() -> None:
    folder = files("celery_redis_expiry").joinpath("lua")
    assert {path.name for path in folder.iterdir()} == {f"{name}.lua" for name in (*NAMES, *ALL_PRELUDES)}


@pytest.mark.parametrize("name", NAMES)
def test_the_header_says_purpose_keys_arguments_and_answer(name: str) -> None:
    lines = header(name).splitlines()
    assert lines[0].startswith(f"-- {name}: ")
    for part in ("KEYS:", "ARGV:", "RETURNS:"):
        assert any(line.startswith(f"-- {part}") for line in lines), f"{name}.lua: no {part}"


@pytest.mark.parametrize("name", NAMES)
def test_the_header_counts_the_keys_that_the_body_takes(name: str) -> None:
    listed = re.search(r"^-- KEYS: (.*)$", header(name), re.M).group(1)
    fixed = [word for word in re.split(r",? then", listed)[0].split() if word != "(none)"]
    body = re.sub(r"^--.*$", "", source(name), flags=re.M)
    indexes = {int(index) for index in re.findall(r"KEYS\[(\d+)\]", body)}
    assert indexes == set(range(1, len(fixed) + 1)), f"{name}.lua: {fixed} and {indexes}"


@pytest.mark.parametrize("name", [*NAMES, *ALL_PRELUDES])
def test_no_key_is_computed(name: str) -> None:
    for command, key in re.findall(r"redis\.p?call\('(\w+)',\s*([^,)]+)", source(name)):
        if command not in ("TIME", "PUBLISH"):
            assert ".." not in key, f"{name}.lua: {command} {key}"


@pytest.mark.parametrize("name", [*NAMES, *ALL_PRELUDES])
def test_a_script_fits_a_screen_or_two(name: str) -> None:
    assert len(source(name).splitlines()) <= 110


class Server(Link):
    """Answers in turn."""

    def __init__(self, *answers: Any, patience: float = 0) -> None:
        super().__init__(Location("redis://nowhere"), patience=patience)
        self.answers = list(answers)
        self.calls: list[str] = []

    async def execute(self, *words: Any) -> Any:
        self.calls.append(words[0] if words[1] != program("look") else f"{words[0]} text")
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_a_script_that_the_server_does_not_know_is_sent() -> None:
    server = Server(NoScriptError(), "done")
    assert server.scripts.look(keys=["key"], args=[1]) == "done"
    assert server.calls == ["EVALSHA", "EVAL text"]


@pytest.mark.parametrize("refusal", ["NOREPLICAS Not enough good replicas", "TRYAGAIN Multiple keys"])
def test_what_is_refused_for_a_moment_is_tried_again(refusal: str) -> None:
    assert Server(ResponseError(refusal), "done", patience=10).scripts.look(keys=["key"], args=[]) == "done"
    with pytest.raises(ResponseError, match=refusal.split()[0]):
        Server(ResponseError(refusal), "done", patience=-1).scripts.look(keys=["key"], args=[])
