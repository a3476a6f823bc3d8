"""What an expiry worker tells of itself: its figures, in `celery inspect stats` and to Prometheus."""
