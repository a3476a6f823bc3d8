"""A page to fill a cart, leave it, and see it among those that were left."""

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from carts import cart
from carts.models import AbandonedCart

COOKIE = "cart"
SHOWN = 20


@never_cache
@require_GET
def index(request: HttpRequest) -> HttpResponse:
    name = _name(request)
    goods, seconds = cart.look(name) if name else ({}, 0.0)
    return render(
        request,
        "carts/index.html",
        {
            "page": "carts",
            "ops_open": settings.OPS_OPEN,
            "goods": sorted(goods.items()),
            "seconds": seconds,
            "sold": cart.GOODS,
            "lifetime": settings.CART_SECONDS,
            "abandoned": AbandonedCart.objects.order_by("-expired_at")[:SHOWN],
        },
    )


@require_POST
def put(request: HttpRequest) -> HttpResponse:
    name = _name(request) or cart.new_name()
    if request.POST.get("good") in cart.GOODS:
        cart.put(name, request.POST["good"])
    response = redirect("carts")
    response.set_cookie(COOKIE, name, httponly=True, samesite="Lax")
    return response


def _name(request: HttpRequest) -> str:
    """The visitor's cart; what else a cookie may hold is none."""
    name = request.COOKIES.get(COOKIE, "")
    return name if name.startswith("cart:") and len(name) <= 100 else ""
