"""The page of the admin: what waits, page by page; to cancel some of it, or to fire it now."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery import current_app
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path

from celery_redis_expiry.blocking import run
from celery_redis_expiry.changing import fire_timer
from celery_redis_expiry.contrib.django.listing import SHOWN, STATES, Filter, Page, page_of, timers_of
from celery_redis_expiry.contrib.django.models import Timer
from celery_redis_expiry.errors import ExpiryError
from celery_redis_expiry.scheduling import cancel
from celery_redis_expiry.store import calls_of

TEMPLATES = "admin/celery_redis_expiry/timer"


def _cancel(id: str) -> bool:
    return cancel(current_app.AsyncResult(id))


def _fire(id: str) -> bool:
    app = current_app._get_current_object()
    return run(fire_timer(calls_of(app), app, id))


#: By the name of its permission: what a button does, what it says, and what is told of it.
ACTS: dict[str, tuple[Callable[[str], bool], str, str]] = {
    "cancel": (_cancel, "Cancel", "cancelled"),
    "fire": (_fire, "Fire now", "made due now"),
}


@admin.register(Timer)
class TimerAdmin(admin.ModelAdmin):
    """Timers are nobody's rows: they are listed and changed by the package, and only as far as that goes."""

    def get_urls(self) -> list[Any]:
        name = f"{self.opts.app_label}_{self.opts.model_name}_changelist"
        return [path("", self.admin_site.admin_view(self.changelist_view), name=name)]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def may(self, request: HttpRequest, act: str) -> bool:
        """Whether who asks may do this, one of `ACTS`."""
        return bool(request.user.has_perm(f"{self.opts.app_label}.{act}_{self.opts.model_name}"))

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        if request.method == "POST":
            return self._act(request)
        wanted = Filter.of(request.GET)
        page, problem = Page(), ""
        try:
            page = page_of(current_app._get_current_object(), wanted)
        except ExpiryError as exc:
            problem = str(exc)
        context = {
            "page": page,
            "problem": problem,
            "wanted": wanted,
            "states": STATES,
            "acts": [(act, label) for act, (_, label, _) in ACTS.items() if self.may(request, act)],
            "next": _with(request, after=page.after) if page.after else "",
            "first": _with(request, after=None) if wanted.after else "",
        }
        return self._page(request, "list.html", context, status=503 if problem else 200)

    def _act(self, request: HttpRequest) -> HttpResponse:
        """Ask, then do. It goes by task ids: a timer that has replaced another meanwhile is left alone."""
        act, ids = request.POST.get("act", ""), request.POST.getlist("id")[:SHOWN]
        if act not in ACTS or not self.may(request, act):
            raise PermissionDenied
        do, label, done = ACTS[act]
        back = HttpResponseRedirect(request.get_full_path())
        try:
            rows = timers_of(current_app._get_current_object(), ids)
            if not rows:
                messages.warning(request, "None of them waits any more." if ids else "No timer was selected.")
                return back
            if "confirmed" not in request.POST:
                context = {"act": act, "label": label, "rows": rows, "back": request.get_full_path()}
                return self._page(request, "confirm.html", context)
            self._do(request, do, done, ids)
        except ExpiryError as exc:
            messages.error(request, str(exc))
        return back

    def _do(self, request: HttpRequest, do: Callable[[str], bool], done: str, ids: list[str]) -> None:
        count = 0
        try:
            for id in ids:
                if do(id):
                    count += 1
                    self.log_change(request, Timer(id=id), f"The timer was {done}.")
        finally:
            # also where Redis went away in the middle
            if count:
                messages.success(request, f"{count} timers {done}." if count > 1 else f"1 timer {done}.")
        if count < len(ids):
            messages.warning(request, f"{len(ids) - count} did not wait any more, and were left as they are.")

    def _page(
        self, request: HttpRequest, template: str, context: dict[str, Any], status: int = 200
    ) -> HttpResponse:
        return TemplateResponse(
            request,
            f"{TEMPLATES}/{template}",
            {**self.admin_site.each_context(request), "opts": self.opts, "title": "Timers", **context},
            status=status,
        )


def _with(request: HttpRequest, **changes: str | None) -> str:
    """The query of this page with some of it changed."""
    query = request.GET.copy()
    for name, value in changes.items():
        query.pop(name, None)
        if value is not None:
            query[name] = value
    return f"?{query.urlencode()}"
