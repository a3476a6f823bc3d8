"""A Django project in this process: two SQLite databases in memory, an admin site, no settings module."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import django
import pytest
from django.conf import settings

from tests.servers.redis import RedisServer
from tests.site import Site

MEMORY = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}

if not settings.configured:
    settings.configure(
        SECRET_KEY="for tests",
        ROOT_URLCONF="tests.django.urls",
        DATABASES={"default": MEMORY, "other": MEMORY},
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "django.contrib.messages",
            "django.contrib.admin",
            "celery_redis_expiry.contrib.django",
        ],
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "django.contrib.messages.middleware.MessageMiddleware",
        ],
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "APP_DIRS": True,
                "OPTIONS": {
                    "context_processors": [
                        "django.template.context_processors.request",
                        "django.contrib.auth.context_processors.auth",
                        "django.contrib.messages.context_processors.messages",
                    ]
                },
            }
        ],
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        ALLOWED_HOSTS=["testserver"],
        USE_TZ=True,
        TIME_ZONE="UTC",
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    )
    django.setup()


@pytest.fixture(scope="session", autouse=True)
def databases() -> None:
    """The tables of both databases, for as long as their connections are open."""
    from django.core.management import call_command

    for alias in ("default", "other"):
        call_command("migrate", database=alias, verbosity=0)


@pytest.fixture
def make_site(shared_redis: Callable[..., RedisServer], tmp_path: Path) -> Iterator[Callable[..., Site]]:
    made: list[Site] = []

    def make(**options: Any) -> Site:
        server = shared_redis(use="django")
        made.append(Site(server, tmp_path, **options))
        if len(made) == 1:
            made[0].reset()
        return made[-1]

    yield make
    for site in made:
        site.close()


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Iterator[Site]:
    """A site without workers, whose app is the current one."""
    site = make_site()
    with site.current():
        yield site
