"""Pages of models, versions and data sets."""

from django.urls import path, re_path

from registry import views

urlpatterns = [
    path("models/", views.models, name="models"),
    path("models/new/", views.model_new, name="model_new"),
    path("models/starter/", views.starter_base, name="starter_base"),
    path("models/<int:pk>/", views.model, name="model"),
    path("models/<int:pk>/alias/", views.alias_move, name="alias_move"),
    re_path(
        r"^models/(?P<pk>[0-9]+)/(?P<version>[0-9]+\.[0-9]+\.[0-9]+)/$",
        views.version,
        name="version",
    ),
    path("datasets/", views.datasets, name="datasets"),
    path("datasets/new/", views.dataset_new, name="dataset_new"),
    path("datasets/starter/", views.starter_dataset, name="starter_dataset"),
    path("datasets/<int:pk>/", views.dataset, name="dataset"),
]
