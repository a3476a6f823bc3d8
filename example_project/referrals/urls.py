from django.urls import path

from referrals import api, pages

urlpatterns = [
    path("", pages.index, name="index"),
    path("live", pages.live, name="live"),
    path("friends", pages.refer, name="refer"),
    path("friends/<int:pk>/<slug:act>", pages.act, name="act"),
    path("health", api.health),
    path("referrals", api.create),
    path("referrals/<int:pk>", api.show),
    path("referrals/<int:pk>/sign-up", api.sign_up),
]
