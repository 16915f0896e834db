"""Routes of the pages about the hub itself."""

from django.urls import path

from hub import accounts, styleguide
from hub.preferences.views import settings
from hub.web import views

urlpatterns = [
    path("", views.dashboard, name="dashboard"),
    path("find/", views.find, name="search"),
    path("system/", views.system, name="system"),
    path("system/speed/", views.speed, name="speed"),
    path("system/samples.json", views.samples, name="system_samples"),
    path("settings/", settings, name="settings"),
    path("first-account/", accounts.first, name="first_account"),
    path("styleguide/", styleguide.page, name="styleguide"),
]
