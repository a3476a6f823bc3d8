from django.urls import include, path

urlpatterns = [
    path("", include("referrals.urls")),
    path("", include("carts.urls")),
    path("", include("ops.urls")),
]
