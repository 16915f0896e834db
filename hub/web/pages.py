"""Routes of the pages about the hub itself."""

from django.urls import path

from hub.web import views

urlpatterns = [
    path("", views.dashboard, name="dashboard"),
    path("find/", views.find, name="search"),
    path("system/", views.system, name="system"),
    path("system/speed/", views.speed, name="speed"),
    path("system/samples.json", views.samples, name="system_samples"),
]
