"""Every code block of README and documentation is executed, by the rule for its language.

A block in a new language wants a rule in `RULES`, a command in a shell block one in `commands.RULES`, a name
that a page's Python takes for granted a place in `World.names`. Output and diagrams are `text`.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import yaml

from tests.django import project
from tests.docs import manifest_rule, pytest_rule, python_rule, unit_rule
from tests.docs.blocks import Block, blocks, pages, read
from tests.docs.world import World

PAGES = {page: found for page in pages() if (found := blocks(page))}
#: How many blocks may be left out with a reason (`<!-- not run: … -->`). Think twice before you raise it.
LEFT_OUT = 2


def run_redis(block: Block, world: World) -> None:
    """A Redis starts with this configuration, and has it."""
    lines = [line.split(None, 1) for line in block.code.splitlines() if line and not line.startswith("#")]
    server = world.start_redis(**{name.replace("-", "_"): value.strip('"') for name, value in lines})
    with server.client() as client:
        for name, value in lines:
            has = client.config_get(name)[name]  # flags are told in an order of Redis's own
            assert sorted(has) == sorted(value.strip('"')), f"{block.place}: {name} is {has!r}"
    server.remove()


def run_yaml(block: Block, world: World) -> None:
    if "kind:" in block.code:
        manifest_rule.run(block, world)
    else:
        assert yaml.safe_load(block.code)


def run_text(block: Block, world: World) -> None:
    """Output and diagrams: to be read, not typed."""


RULES: dict[str, Callable[[Block, World], None]] = {
    "conf": run_redis,
    "ini": unit_rule.run,
    "json": lambda block, world: json.loads(block.code),
    "text": run_text,
    "yaml": run_yaml,
}


@pytest.mark.parametrize("page", PAGES)
def test_every_block_runs(page: str, world: World) -> None:
    found = [block for block in PAGES[page] if not block.reason]
    names = world.names()
    files = {block.title.rpartition("/")[2]: block.code for block in found if block.title}
    if any(".get(timeout=" in block.code for block in found if block.language == "python"):
        world.start_workers(found)
    if any("from django" in block.code for block in found if block.language == "python"):
        project.begin()
    project_files = pytest_rule.files_of(found)
    if project_files:
        pytest_rule.run([world.here(block) for block in project_files], world.folder)
    for block in found:
        if block in project_files:
            continue
        if block.language == "python":
            python_rule.run(world.here(block), names)
        elif block.language == "sh":
            world.shell.run(block, files)
        else:
            language = block.language or "a block without a language"
            assert block.language in RULES, f"{block.place}: no rule for {language}"
            RULES[block.language](block, world)
    python_rule.check_settings(page, names["app"])


def test_few_blocks_are_left_out() -> None:
    left_out = [
        f"{block.place}: {block.reason}" for found in PAGES.values() for block in found if block.reason
    ]
    assert len(left_out) <= LEFT_OUT, "\n".join(left_out)


def test_no_block_escapes() -> None:
    page = """
1.  In a list:

    ```python
    1 / 0
    ```

        indented

<!-- not run: it takes a day -->

```sh title="a/file"
sleep 86400
```
"""
    found = [(block.line, block.language, block.title, block.reason) for block in read("page", page)]
    assert found == [(5, "python", "", ""), (8, "", "", ""), (13, "sh", "a/file", "it takes a day")]
