"""The page: plain forms, which work without JavaScript; `live.js` sends the same and stays on the page."""

from collections.abc import Callable

from celery_redis_expiry import StoreUnavailable
from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from referrals import services
from referrals.forms import ReferForm
from referrals.models import Referral
from referrals.showing import LATER, shop
from shop.live import as_json


@never_cache
@require_GET
def index(request: HttpRequest) -> HttpResponse:
    return _page(request, ReferForm())


@never_cache
@require_GET
def live(request: HttpRequest) -> JsonResponse:
    """What the page shows now."""
    shown = shop()
    return JsonResponse(as_json(shown.now, shown.lists))


@require_POST
def refer(request: HttpRequest) -> HttpResponse:
    form = ReferForm(request.POST)
    if not form.is_valid():
        return _answer(request, form, "Nobody was referred.", 400)
    phone = form.cleaned_data["phone"]
    try:
        services.refer(**form.cleaned_data)
    except StoreUnavailable:
        told = (
            f"{phone} is saved, but has no timer, as Redis does not answer. "
            "When it does, run manage.py rearm_referrals."
        )
        return _answer(request, form, told, 503)
    return _answer(request, form, f"{phone} is referred, and the timer runs.")


@require_POST
def act(request: HttpRequest, pk: int, act: str) -> HttpResponse:
    """Do with a referral what its button says."""
    if act not in ACTS:
        raise Http404
    referral = get_object_or_404(Referral, pk=pk)
    do, done, in_vain = ACTS[act]
    try:
        told, status = (done, 200) if do(referral) else (in_vain, 409)
    except StoreUnavailable:
        told, status = "Redis does not answer: {} was left as it is.", 503
    return _answer(request, ReferForm(), told.format(referral.phone), status)


#: What each button does, and what is said of it when it did, and when there was nothing to do any more.
ACTS: dict[str, tuple[Callable[[Referral], bool], str, str]] = {
    "sign-up": (services.sign_up, "{} has signed up: no text.", "{} had signed up before."),
    "later": (
        lambda referral: services.postpone(referral, LATER),
        f"{{}} has {LATER} seconds more.",
        "{} has no timer any more that could be moved.",
    ),
    "cancel": (services.cancel_reminder, "{} gets no reminder.", "{} was decided already."),
}


def _answer(request: HttpRequest, form: ReferForm, told: str, status: int = 200) -> HttpResponse:
    """To `live.js` in JSON; to a browser the page, by a redirect after success, for its reload."""
    if request.accepts("text/html"):
        return redirect("index") if status == 200 else _page(request, form, told, status)
    shown = shop()
    errors = {name: " ".join(wrong) for name, wrong in form.errors.items()}
    return JsonResponse(as_json(shown.now, shown.lists) | {"told": told, "errors": errors}, status=status)


def _page(request: HttpRequest, form: ReferForm, told: str = "", status: int = 200) -> HttpResponse:
    context = {
        "form": form,
        "told": told,
        "failed": status >= 400,
        "lists": shop().lists,
        "usual": settings.REFERRAL_DELAY,
        "page": "shop",
        "ops_open": settings.OPS_OPEN,
    }
    return render(request, "referrals/index.html", context, status=status)
