"""The operator's view of the timers: any Celery app's, nothing in here knows of referrals."""
