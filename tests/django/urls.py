"""The admin, and what a test puts into `VIEWS`."""

from __future__ import annotations

from collections.abc import Callable

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import path

VIEWS: dict[str, Callable[[], None]] = {}


def view(request: HttpRequest, name: str) -> HttpResponse:
    VIEWS[name]()
    return HttpResponse("done")


urlpatterns = [path("admin/", admin.site.urls), path("<name>", view)]
