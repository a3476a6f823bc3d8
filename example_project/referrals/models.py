"""The database knows what was decided; the timer only says when to look."""

from django.db import models


class ReferralQuerySet(models.QuerySet["Referral"]):
    def undecided(self) -> "ReferralQuerySet":
        """Those of whom nobody knows yet whether the reminder goes out."""
        return self.filter(signed_up_at=None, cancelled_at=None, reminder_claimed_at=None)


class Referral(models.Model):
    referrer = models.CharField(max_length=100)  # in a real shop: a foreign key to the user
    phone = models.CharField(max_length=20)
    created_at = models.DateTimeField(auto_now_add=True)
    signed_up_at = models.DateTimeField(null=True)
    #: When somebody decided that no reminder is wanted.
    cancelled_at = models.DateTimeField(null=True)
    #: When it was decided that the reminder goes out: from then on it does, whatever the friend does.
    reminder_claimed_at = models.DateTimeField(null=True)
    #: When the SMS gateway had taken it.
    reminded_at = models.DateTimeField(null=True)

    objects = ReferralQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.referrer} referred {self.phone}"

    @property
    def timer_name(self) -> str:
        """The timer's name (`key=`): by it the sign-up finds the timer again, with nothing stored here."""
        return f"referral:{self.pk}"
