"""Client of the SMS gateway."""

import json
from dataclasses import dataclass
from datetime import datetime, timezone
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from django.conf import settings


class GatewayError(Exception):
    """The gateway could not be asked, or not now: worth another try."""


class MessageRefused(Exception):
    """The gateway will not take this message, however often it is asked."""


def send(phone: str, text: str, *, idempotency_key: str) -> None:
    """Hand one text message to the gateway; of calls with the same key it sends the first."""
    request = Request(
        f"{settings.SMS_GATEWAY_URL}/messages",
        data=json.dumps({"to": phone, "text": text}).encode(),
        headers={"Content-Type": "application/json", "Idempotency-Key": idempotency_key},
    )
    try:
        with urlopen(request, timeout=10):
            pass
    except HTTPError as error:
        kind = GatewayError if error.code == 429 or error.code >= 500 else MessageRefused
        raise kind(f"the gateway answered {error.code} {error.reason}") from error
    except (OSError, HTTPException) as error:
        raise GatewayError(f"no answer from the gateway: {error}") from error


@dataclass(frozen=True)
class Text:
    """A text message that the gateway has taken."""

    key: str
    to: str
    text: str
    received_at: datetime


def sent(last: int) -> list[Text]:
    """The `last` text messages that the gateway has taken, newest first. Raises GatewayError."""
    try:
        with urlopen(f"{settings.SMS_GATEWAY_URL}/messages?last={last}", timeout=2) as response:
            messages = json.load(response)
        return [
            Text(
                message["key"],
                message["to"],
                message["text"],
                datetime.fromtimestamp(message["received_at"], timezone.utc),
            )
            for message in reversed(messages)
        ]
    except (OSError, HTTPException, ValueError, LookupError, TypeError) as error:
        raise GatewayError(f"no answer from the gateway: {error}") from error
