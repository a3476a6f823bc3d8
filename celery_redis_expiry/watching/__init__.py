"""Users' own keys: which tasks are told when they expire."""

from celery_redis_expiry.watching.event import FieldEvent, KeyEvent, signature_with
from celery_redis_expiry.watching.handlers import Handler, handlers_of, on_field_expired, on_key_expired

__all__ = [
    "FieldEvent",
    "Handler",
    "KeyEvent",
    "handlers_of",
    "on_field_expired",
    "on_key_expired",
    "signature_with",
]
