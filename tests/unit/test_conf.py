"""A setting is what Celery says it is, wherever it stands and whenever it changes."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery

from celery_redis_expiry.conf import NAME_FIRST, setting

NAMES = ("task_always_eager", "task_send_sent_event", "task_default_queue", "task_inherit_parent_priority")


def by_default() -> Celery:
    return Celery("conf", set_as_current=False)


def by_attributes() -> Celery:
    app = by_default()
    app.conf.task_always_eager = True
    app.conf.update(task_default_queue="mine")
    return app


def by_object() -> Celery:
    app = by_default()
    app.config_from_object(SimpleNamespace(task_always_eager=True, task_default_queue="theirs"))
    return app


def by_object_with_namespace() -> Celery:
    app = by_default()
    app.config_from_object(SimpleNamespace(CELERY_TASK_ALWAYS_EAGER=True), namespace="CELERY")
    return app


def by_old_names() -> Celery:
    app = by_default()
    app.config_from_object({"CELERY_ALWAYS_EAGER": True, "CELERY_DEFAULT_QUEUE": "old"})
    return app


def by_constructor() -> Celery:
    return Celery(
        "conf", set_as_current=False, task_always_eager=True, config_source={"task_default_queue": "q"}
    )


@pytest.mark.parametrize(
    "build",
    [by_default, by_attributes, by_object, by_object_with_namespace, by_old_names, by_constructor],
)
def test_it_is_what_the_configuration_says(build: Callable[[], Celery]) -> None:
    for _ in range(2):
        app, other = build(), build()
        for name in NAMES:
            assert setting(app, name) == other.conf[name] == getattr(app.conf, name)
            assert setting(app, name) == app.conf[name]
    assert setting(app, "task_always_eager") is (build is not by_default)


def test_a_change_is_noticed_wherever_it_is_made() -> None:
    settings: Any = SimpleNamespace(CELERY_TASK_ALWAYS_EAGER=False)
    app = by_default()
    app.config_from_object(settings, namespace="CELERY")
    assert setting(app, "task_always_eager") is False
    # as Django's override_settings does
    settings.CELERY_TASK_ALWAYS_EAGER = True
    assert setting(app, "task_always_eager") is True
    app.conf.task_always_eager = False
    # before Celery 5.7 what Django's settings say comes first
    assert setting(app, "task_always_eager") is app.conf["task_always_eager"] is NAME_FIRST
    app.conf.changes.clear()
    assert setting(app, "task_always_eager") is True


def test_another_configuration_is_noticed() -> None:
    app = by_default()
    assert setting(app, "task_default_queue") == "celery"
    app.config_from_object({"task_default_queue": "later"}, force=True)
    assert setting(app, "task_default_queue") == app.conf.task_default_queue == "later"
    app.config_from_object(SimpleNamespace(X_TASK_DEFAULT_QUEUE="prefixed"), namespace="X", force=True)
    assert setting(app, "task_default_queue") == app.conf.task_default_queue == "prefixed"


def test_what_is_nowhere_is_missing_as_ever() -> None:
    with pytest.raises(KeyError):
        setting(by_default(), "no_such_setting")
