"""The playground, models in memory, the request log, replays and keys."""

from django.urls import path

from inference import views

urlpatterns = [
    path("playground/", views.playground, name="playground"),
    path("requests/", views.requests, name="requests"),
    path("requests/replays/", views.replays, name="replays"),
    path("requests/replays/<int:pk>/", views.replay, name="replay"),
    path("system/models/", views.loaded, name="loaded"),
    path("system/models/load/", views.load_model, name="loaded_load"),
    path("system/models/pin/", views.pin_model, name="loaded_pin"),
    path("system/models/unload/", views.unload_model, name="loaded_unload"),
    path("system/models/unload-idle/", views.unload_idle_models, name="loaded_unload_idle"),
    path("system/keys/", views.keys, name="keys"),
    path("system/keys/<int:pk>/limits/", views.key_limits, name="key_limits"),
    path("system/keys/<int:pk>/revoke/", views.key_revoke, name="key_revoke"),
]
