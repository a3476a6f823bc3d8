"""The scripts keep to their rules: a header that tells the truth, no key computed in Lua."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from celery_redis_expiry.scripts import NAMES, source


def header(name: str) -> str:
    return "\n".join(line for line in source(name).splitlines() if line.startswith("--"))


def test_every_script_is_loaded() -> None:
    folder = files("celery_redis_expiry").joinpath("lua")
    assert {path.name for path in folder.iterdir()} == {f"{name}.lua" for name in NAMES}


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


@pytest.mark.parametrize("name", NAMES)
def test_no_key_is_computed(name: str) -> None:
    for command, key in re.findall(r"redis\.p?call\('(\w+)',\s*([^,)]+)", source(name)):
        if command not in ("TIME", "PUBLISH"):
            assert ".." not in key, f"{name}.lua: {command} {key}"


@pytest.mark.parametrize("name", NAMES)
def test_a_script_fits_a_screen_or_two(name: str) -> None:
    assert len(source(name).splitlines()) <= 110
