"""The app. Having it installed also imports the package, and so its hooks, in every process of Django's."""

from __future__ import annotations

from django.apps import AppConfig
from django.core import checks


class ExpiryConfig(AppConfig):
    name = "celery_redis_expiry.contrib.django"
    label = "celery_redis_expiry"
    verbose_name = "Timers"

    def ready(self) -> None:
        from celery_redis_expiry.contrib.django.checks import TAG, check_deployment, check_settings

        checks.register(check_settings, TAG)
        checks.register(check_deployment, TAG, deploy=True)
