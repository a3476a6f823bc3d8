from django.urls import path

from ops import views

urlpatterns = [path("ops", views.index, name="ops"), path("ops/live", views.live, name="ops-live")]
