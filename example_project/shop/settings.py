"""Settings of the example. What differs between a laptop, the demo and Docker comes from the environment."""

import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent

SECRET_KEY = os.environ.get("SECRET_KEY", "good enough for an example")
DEBUG = os.environ.get("DEBUG") == "1"
ALLOWED_HOSTS = os.environ.get("ALLOWED_HOSTS", "localhost,127.0.0.1").split(",")

#: Who may see /ops: everybody, or nobody. This shop has no login; see ops/views.py for one that has.
OPS_OPEN = os.environ.get("OPS_OPEN", "1" if DEBUG else "0") == "1"

INSTALLED_APPS = [
    "django.contrib.staticfiles",
    "celery_redis_expiry.contrib.django",  # manage.py check knows the timers' settings
    "referrals",
    "carts",
    "ops",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "shop" / "templates"],
        "APP_DIRS": True,
    }
]
# Django itself serves no static files without DEBUG. WhiteNoise does, under any server, and takes them from
# where they lie: nobody has to run collectstatic for two files.
STATIC_URL = "static/"
STATICFILES_DIRS = [BASE_DIR / "shop" / "static"]
WHITENOISE_USE_FINDERS = True

ROOT_URLCONF = "shop.urls"
WSGI_APPLICATION = "shop.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
TIME_ZONE = "UTC"
USE_TZ = True

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("DB_PATH", BASE_DIR / "db.sqlite3"),
        # Web and workers write to one file. WAL lets them read meanwhile; a writer waits its turn (timeout)
        # and asks for it at BEGIN, because a transaction that turns writer half-way can't wait: it fails.
        "OPTIONS": {
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
        },
    }
}

# One Redis is broker and alarm clock, unless BROKER_URL names another broker. Timers find a Redis that is the
# broker by themselves; here they are told, for the other case. Their namespace is the app's name, "shop":
# CELERY_EXPIRY_NAMESPACE would change it.
CELERY_EXPIRY_REDIS_URL = os.environ.get("REDIS_URL", "redis://localhost:6379/0")
CELERY_BROKER_URL = os.environ.get("BROKER_URL", CELERY_EXPIRY_REDIS_URL)
CELERY_IMPORTS = ["shop.heartbeat"]  # in workers alone
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_IGNORE_RESULT = True
# What Flower shows it is told by events: of a timer when it is scheduled, of its task by the worker.
CELERY_TASK_SEND_SENT_EVENT = True
CELERY_WORKER_SEND_TASK_EVENTS = True

SMS_GATEWAY_URL = os.environ.get("SMS_GATEWAY_URL", "http://localhost:8025")
#: Seconds a referred friend has for signing up before we send the reminder.
REFERRAL_DELAY = float(os.environ.get("REFERRAL_DELAY", 24 * 60 * 60))
#: Seconds for which a cart lives after the last thing was put in.
CART_SECONDS = int(os.environ.get("CART_SECONDS", 60))
