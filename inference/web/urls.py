"""The playground, models in memory, the request log, replays, checks of clients and keys."""

from django.urls import path

from inference.web import views

urlpatterns = [
    path("playground/", views.playground, name="playground"),
    path("playground/models/", views.playground_models, name="playground_models"),
    path("playground/try/<int:pk>/<str:version>/", views.trial, name="trial"),
    path("playground/conversations/", views.conversations, name="conversations"),
    path(
        "playground/conversations/<int:pk>/rename/",
        views.conversation_rename,
        name="conversation_rename",
    ),
    path(
        "playground/conversations/<int:pk>/delete/",
        views.conversation_delete,
        name="conversation_delete",
    ),
    path("requests/", views.requests, name="requests"),
    path("requests/replays/", views.replays, name="replays"),
    path("requests/replays/<int:pk>/", views.replay, name="replay"),
    path("requests/feedback/", views.rated, name="rated"),
    path("requests/<str:request_id>/", views.request, name="request"),
    path("requests/<str:request_id>/feedback/", views.request_feedback, name="request_feedback"),
    path("requests/<str:request_id>/replay/", views.request_replay, name="request_replay"),
    path("models/<int:pk>/<str:version>/clients/", views.client_checks, name="client_checks"),
    path("bases/<int:pk>/clients/", views.base_client_checks, name="base_clients"),
    path("models/<int:pk>/use/", views.model_use, name="model_use"),
    path("models/<int:pk>/<str:version>/use/", views.version_use, name="version_use"),
    path("system/models/", views.loaded, name="loaded"),
    path("system/models/load/", views.load_model, name="loaded_load"),
    path("system/models/pin/", views.pin_model, name="loaded_pin"),
    path("system/models/unload/", views.unload_model, name="loaded_unload"),
    path("system/models/unload-idle/", views.unload_idle_models, name="loaded_unload_idle"),
    path("system/keys/", views.keys, name="keys"),
    path("system/keys/selected/<str:action>/", views.keys_selected, name="keys_selected"),
    path("system/keys/<int:pk>/limits/", views.key_limits, name="key_limits"),
    path("system/keys/<int:pk>/revoke/", views.key_revoke, name="key_revoke"),
]
