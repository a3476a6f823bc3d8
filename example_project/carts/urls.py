from django.urls import path

from carts import views

urlpatterns = [path("carts", views.index, name="carts"), path("carts/put", views.put, name="put")]
