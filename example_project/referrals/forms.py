"""What may be asked for, in the page and over the API."""

from django import forms

MONTH = 30 * 24 * 60 * 60


class ReferForm(forms.Form):
    referrer = forms.CharField(max_length=100)
    phone = forms.CharField(max_length=20)
    #: Seconds until the shop looks; left out: settings.REFERRAL_DELAY.
    delay = forms.FloatField(min_value=0, max_value=MONTH, required=False)
