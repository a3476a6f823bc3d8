"""A Django project in this process: two SQLite databases in memory, an admin site, no settings module."""

from __future__ import annotations

import django
from django.conf import settings
from django.core.management import call_command

MEMORY = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}


def begin() -> None:
    """Configure it, once a process; its tables are there for as long as the connections are open."""
    if settings.configured:
        return
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
    for alias in ("default", "other"):
        call_command("migrate", database=alias, verbosity=0)
