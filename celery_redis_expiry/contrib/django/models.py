"""What permissions hang on, and the admin's page: there is no table, the timers are in Redis."""

from __future__ import annotations

from django.db import models


class Timer(models.Model):
    """A waiting timer, as far as Django has to know it: by its task id."""

    id = models.CharField(primary_key=True, max_length=256)

    class Meta:
        managed = False
        verbose_name = "timer"
        default_permissions = ("view",)
        permissions = [
            ("cancel_timer", "Can cancel timers"),
            ("fire_timer", "Can fire timers now"),
        ]

    def __str__(self) -> str:
        return str(self.id)
