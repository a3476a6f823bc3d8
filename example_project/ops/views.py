"""The operator's page. It changes nothing: that is what `celery expiry` on the command line is for."""

from collections.abc import Callable
from functools import wraps

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from ops.showing import operations
from shop.live import as_json

View = Callable[[HttpRequest], HttpResponse]


def operators_only(view: View) -> View:
    """Names and arguments of tasks are nobody else's business: closed unless settings.OPS_OPEN.

    A shop with a login takes `django.contrib.admin.views.decorators.staff_member_required` in place of this.
    """

    @wraps(view)
    def guarded(request: HttpRequest) -> HttpResponse:
        if not settings.OPS_OPEN:
            raise Http404
        return view(request)

    return guarded


@operators_only
@never_cache
@require_GET
def index(request: HttpRequest) -> HttpResponse:
    return render(request, "ops/index.html", {"lists": operations().lists, "page": "ops", "ops_open": True})


@operators_only
@never_cache
@require_GET
def live(request: HttpRequest) -> JsonResponse:
    """What the page shows now."""
    shown = operations()
    return JsonResponse(as_json(shown.now, shown.lists))
