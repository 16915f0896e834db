"""The playground, the request log, replays and keys."""

from django.urls import path

from inference import views

urlpatterns = [
    path("playground/", views.playground, name="playground"),
    path("requests/", views.requests, name="requests"),
    path("requests/replays/", views.replays, name="replays"),
    path("requests/replays/<int:pk>/", views.replay, name="replay"),
    path("system/keys/", views.keys, name="keys"),
    path("system/keys/<int:pk>/limits/", views.key_limits, name="key_limits"),
    path("system/keys/<int:pk>/revoke/", views.key_revoke, name="key_revoke"),
]
