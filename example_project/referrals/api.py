"""The story over HTTP, without login and forms: `curl` is enough to play it."""

from collections.abc import Callable
from functools import wraps

from celery_redis_expiry import StoreUnavailable, get_timer
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

from referrals import services
from referrals.forms import ReferForm
from referrals.models import Referral

# Exempt from CSRF's tokens, as curl has none. Nobody is logged in here, so no cookie lends a foreign page any
# rights; an API that knows its users by a cookie must not be exempt, and one that wants a token has no need.


AWAY = "Redis does not answer. What was decided is saved; manage.py rearm_referrals gives timers back."


def admits_that_redis_is_away(view: Callable[..., JsonResponse]) -> Callable[..., JsonResponse]:
    @wraps(view)
    def tried(*args: object, **kwargs: object) -> JsonResponse:
        try:
            return view(*args, **kwargs)
        except StoreUnavailable:
            return JsonResponse({"error": AWAY}, status=503)

    return tried


@require_GET
def health(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok\n", content_type="text/plain")


@csrf_exempt
@require_POST
@admits_that_redis_is_away
def create(request: HttpRequest) -> JsonResponse:
    form = ReferForm(request.POST)
    if not form.is_valid():
        wrong = [f"{name}: {' '.join(told)}" for name, told in form.errors.items()]
        return JsonResponse({"error": "; ".join(wrong)}, status=400)
    return JsonResponse(_as_json(services.refer(**form.cleaned_data)), status=201)


@require_GET
@admits_that_redis_is_away
def show(request: HttpRequest, pk: int) -> JsonResponse:
    return JsonResponse(_as_json(get_object_or_404(Referral, pk=pk)))


@csrf_exempt
@require_POST
@admits_that_redis_is_away
def sign_up(request: HttpRequest, pk: int) -> JsonResponse:
    referral = get_object_or_404(Referral, pk=pk)
    services.sign_up(referral)
    referral.refresh_from_db()
    return JsonResponse(_as_json(referral))


def _as_json(referral: Referral) -> dict[str, object]:
    timer = get_timer(referral.timer_name)
    return {
        "id": referral.pk,
        "referrer": referral.referrer,
        "phone": referral.phone,
        "signed_up_at": referral.signed_up_at,
        "cancelled_at": referral.cancelled_at,
        "reminded_at": referral.reminded_at,
        "timer_due": timer.due if timer else None,
        "timer_key": timer.trigger_key if timer else None,
    }
