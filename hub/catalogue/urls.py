"""Pages on which base models are found and imported."""

from django.urls import path

from hub.catalogue import views

urlpatterns = [
    path("bases/new/", views.base_new, name="base_new"),
    path("bases/new/hub/", views.hub_offers, name="hub_offers"),
    path("bases/new/here/", views.local_offers, name="local_offers"),
    path("bases/new/folder/", views.folder, name="base_folder"),
]
