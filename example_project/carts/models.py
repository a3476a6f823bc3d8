"""Carts that were filled and left."""

from django.db import models


class AbandonedCart(models.Model):
    name = models.CharField(max_length=100)
    #: When it expired, as its event says: with the name the same however often the task runs.
    expired_at = models.DateTimeField()
    #: What was in it, as far as that is known.
    goods = models.JSONField(null=True)
    #: Whether no expiry worker was up at that moment.
    missed = models.BooleanField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["name", "expired_at"], name="one_row_an_expiry")]

    def __str__(self) -> str:
        return f"{self.name}, {self.expired_at:%H:%M:%S}"
