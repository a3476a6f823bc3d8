"""The Celery app, as Celery's Django guide has it. Nothing in here is about timers."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")

app = Celery("shop")
# The current app is a matter of each thread. Without this, a web server's threads would fall back on an
# unconfigured app and look for the broker elsewhere.
app.set_default()
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
