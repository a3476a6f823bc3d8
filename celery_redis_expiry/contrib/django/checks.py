"""What `manage.py check` says of timers: of settings always, of Redis and workers with `--deploy`."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from difflib import get_close_matches
from importlib.util import find_spec
from typing import Any

from celery import current_app
from django.conf import settings
from django.core import checks

from celery_redis_expiry.doctor import examine
from celery_redis_expiry.errors import ExpiryError
from celery_redis_expiry.settings import documented
from celery_redis_expiry.store import new_store

#: `manage.py check --tag expiry` is these alone.
TAG = "expiry"
#: Seconds for each answer that a check with `--deploy` waits for.
TIMEOUT = 3.0
#: What Celery calls the app that it makes where there is none.
NO_APP = "default"


def check_settings(**_: Any) -> list[checks.CheckMessage]:
    """No network. What is wrong without an app concerns no app that there is."""
    app = current_app._get_current_object()
    if app.main == NO_APP:
        return [
            checks.Warning(
                "No Celery app is made when Django starts.",
                hint="Import it in the package of your settings: see Celery's First steps with Django.",
                id=_id("W001"),
            )
        ]
    return [*_misspelt(app), *_unusable(app), *_doubtful(app)]


def _misspelt(app: Any) -> Iterator[checks.CheckMessage]:
    known = {name for name, *_ in documented()}
    prefix = f"{app.namespace}_" if app.namespace else ""
    for name in sorted(dir(settings)):
        if prefix and name.startswith(f"{prefix}EXPIRY_"):
            yield from _unknown(name, name.removeprefix(prefix).lower(), known, prefix)
        elif prefix and name.startswith("EXPIRY_") and name.lower() in known:
            yield checks.Warning(
                f"The setting {name} is not read.", hint=f"Did you mean {prefix}{name}?", id=_id("W003")
            )
    for name in sorted(app.conf.changes):
        # in Django's settings as well, where they are found above
        if name.startswith("expiry_") and not hasattr(settings, f"{prefix}{name.upper()}"):
            yield from _unknown(name, name, known, "")


def _unknown(given: str, name: str, known: set[str], prefix: str) -> Iterator[checks.CheckMessage]:
    if name in known:
        return
    # without what all of them begin with, which makes any two alike
    own = {each.removeprefix("expiry_"): each for each in known}
    close = [own[each] for each in get_close_matches(name.removeprefix("expiry_"), own, n=1)]
    meant = f"{prefix}{close[0].upper()}" if close and prefix else "".join(close)
    yield checks.Error(
        f"There is no setting {given}.",
        hint=f"Did you mean {meant}?" if meant else "All of them are in docs/settings.md.",
        id=_id("E001"),
    )


def _unusable(app: Any) -> Iterator[checks.CheckMessage]:
    """Whatever a first call would raise."""
    try:
        new_store(app)
    except ExpiryError as exc:
        yield checks.Error(str(exc)[:1].upper() + str(exc)[1:], hint=_spelt(app, str(exc)), id=_id("E002"))


def _spelt(app: Any, text: str) -> str:
    """How the settings of an error are called here."""
    names = dict.fromkeys(re.findall(r"\bexpiry_\w+", text))
    told = ", ".join(f"{app.namespace}_{name.upper()}" if app.namespace else name for name in names)
    return f"In Django's settings: {told}." if told and app.namespace else "See docs/settings.md."


def _doubtful(app: Any) -> Iterator[checks.CheckMessage]:
    if not app.main and not app.conf.get("expiry_namespace"):
        yield checks.Warning(
            "The Celery app has no name, so its timers' namespace is 'celery', as every other such app's.",
            hint="Celery('shop') instead of Celery(), or the setting expiry_namespace.",
            id=_id("W002"),
        )
    if not _known_to_threads(app):
        yield checks.Warning(
            "Celery's current app is each thread's own, and another in the threads of a web server: there, "
            "cancel, reschedule and get_timer by name would look for timers elsewhere.",
            hint="Call app.set_default() where the app is made.",
            id=_id("W004"),
        )
    if app.conf.get("expiry_metrics_port") is not None and find_spec("prometheus_client") is None:
        yield checks.Warning(
            "expiry_metrics_port is set, but prometheus_client is not installed.",
            hint="pip install 'celery-redis-expiry[prometheus]'",
            id=_id("W005"),
        )


def _known_to_threads(app: Any) -> bool:
    """Asked in a thread that has no current app: Celery tells its default one."""
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(current_app._get_current_object() is app))
    thread.start()
    thread.join()
    return found == [True]


def check_deployment(**_: Any) -> list[checks.CheckMessage]:
    """With `--deploy`: what `celery expiry doctor` finds."""
    app = current_app._get_current_object()
    if app.main == NO_APP:
        return []
    if app.conf.task_always_eager:
        return [
            checks.Warning(
                "task_always_eager: timers are run when they are scheduled, in the process that does it.",
                id=_id("W101"),
            )
        ]
    messages = {
        "fail": (checks.Error, "E102"),
        "warn": (checks.Warning, "W102"),
        "unknown": (checks.Info, "I102"),
    }
    found = []
    for check in examine(app, timeout=TIMEOUT).checks:
        if check.finding.status in messages:
            kind, number = messages[check.finding.status]
            where = f"{check.name} of {check.server}" if check.server else check.name
            found.append(
                kind(f"{where}: {check.finding.text}", hint=check.finding.remedy or None, id=_id(number))
            )
    return found


def _id(number: str) -> str:
    return f"celery_redis_expiry.{number}"
