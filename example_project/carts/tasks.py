"""What happens when a cart expires: the expiry worker sends this task, an ordinary worker runs it."""

from celery import shared_task
from celery_redis_expiry import KeyEvent, on_key_expired

from carts.models import AbandonedCart
from shop.celery import app


@on_key_expired("cart:*", app=app, with_value=True)
@shared_task(acks_late=True)
def cart_expired(event: KeyEvent) -> None:
    """Write down who left what. May run any number of times: an expiry has one row."""
    AbandonedCart.objects.get_or_create(
        name=event["key"],
        expired_at=event["due"],
        defaults={"goods": event["value"], "missed": event["missed"]},
    )
