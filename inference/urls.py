"""The playground and the request log."""

from django.urls import path

from inference import views

urlpatterns = [
    path("playground/", views.playground, name="playground"),
    path("requests/", views.requests, name="requests"),
]
