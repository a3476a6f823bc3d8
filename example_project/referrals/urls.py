from django.urls import path

from referrals import views

urlpatterns = [
    path("health", views.health),
    path("referrals", views.create),
    path("referrals/<int:pk>", views.show),
    path("referrals/<int:pk>/sign-up", views.sign_up),
]
