"""The example shop. Importing it brings up the Celery app, in the web processes as in the workers."""

from shop.celery import app as celery_app

__all__ = ["celery_app"]
