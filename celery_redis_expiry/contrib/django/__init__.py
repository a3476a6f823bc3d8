"""A Django app: checks for `manage.py check`, and a page of the admin that lists waiting timers.

Install it by `INSTALLED_APPS = [..., "celery_redis_expiry.contrib.django"]`.
"""
