"""An app as it was, with `expiry_countdown_threshold` in its settings: it calls what `countdown` calls."""

from __future__ import annotations

from benchmarks.peers import celery_countdown, ours


class Peer(ours.Peer):
    bulk = False
    schedule = celery_countdown.Peer.schedule
