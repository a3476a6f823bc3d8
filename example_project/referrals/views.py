"""The story over HTTP, without login and forms: `curl` is enough to play it."""

from celery_redis_expiry import get_timer
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.http import require_GET, require_POST

from referrals import services
from referrals.models import Referral


@require_GET
def health(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok\n", content_type="text/plain")


@require_POST
def create(request: HttpRequest) -> JsonResponse:
    referrer, phone = request.POST.get("referrer", ""), request.POST.get("phone", "")
    if not 0 < len(referrer) <= 100 or not 0 < len(phone) <= 20:
        return JsonResponse({"error": "needed: referrer (1 to 100 characters), phone (1 to 20)"}, status=400)
    return JsonResponse(_as_json(services.refer(referrer, phone)), status=201)


@require_GET
def show(request: HttpRequest, pk: int) -> JsonResponse:
    return JsonResponse(_as_json(get_object_or_404(Referral, pk=pk)))


@require_POST
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
        "reminded_at": referral.reminded_at,
        "timer_due": timer.due if timer else None,
        "timer_key": timer.trigger_key if timer else None,
    }
