"""The carts without workers: what the page shows, and what the task writes down."""

from unittest import mock

from django.test import TestCase

from carts import cart
from carts.models import AbandonedCart
from carts.tasks import cart_expired

EVENT = {
    "key": "cart:x",
    "pattern": "cart:*",
    "channel": "__keyspace@0__:cart:x",
    "event": "expired",
    "due": "2026-11-24T10:00:00+00:00",
    "missed": False,
    "certain": True,
    "value": {"tea": "2"},
    "value_at": "2026-11-24T09:59:55+00:00",
}


class CartsTest(TestCase):
    def test_an_expiry_has_one_row_however_often_the_task_runs(self) -> None:
        cart_expired(EVENT)
        cart_expired(EVENT)
        cart_expired({**EVENT, "due": "2026-11-24T10:05:00+00:00", "value": None, "missed": True})
        first, second = AbandonedCart.objects.order_by("expired_at")
        self.assertEqual((first.goods, second.goods, second.missed), ({"tea": "2"}, None, True))

    def test_the_page_shows_what_was_left(self) -> None:
        cart_expired(EVENT)
        with mock.patch.object(cart, "look", return_value=({"honey": "1"}, 42.0)):
            self.client.cookies["cart"] = "cart:mine"
            page = self.client.get("/carts").content.decode()
        self.assertIn("1 × honey; 42 s left", page)
        self.assertIn("2 × tea", page)

    def test_putting_something_in(self) -> None:
        with mock.patch.object(cart, "put") as put:
            answer = self.client.post("/carts/put", {"good": "tea"})
            self.client.post("/carts/put", {"good": "a thing that nobody sells"})
        self.assertEqual(answer.url, "/carts")
        put.assert_called_once_with(answer.cookies["cart"].value, "tea")
