"""Stored messages to the broker, by whatever is safest and fastest there."""

from __future__ import annotations

from celery_redis_expiry.worker.publishing.envelopes import Envelope, envelope
from celery_redis_expiry.worker.publishing.lease import Lease
from celery_redis_expiry.worker.publishing.parcel import Parcel
from celery_redis_expiry.worker.publishing.publisher import BrokerUnavailable, Publisher
from celery_redis_expiry.worker.publishing.pushed import NotPlain

__all__ = ["BrokerUnavailable", "Envelope", "Lease", "NotPlain", "Parcel", "Publisher", "envelope"]
