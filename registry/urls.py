"""Pages of models, versions and data sets."""

from django.urls import path, re_path

from registry.views import bases, datasets, models, versions

urlpatterns = [
    path("models/", models.models, name="models"),
    path("models/new/", models.model_new, name="model_new"),
    path("models/starter/", bases.starter_base, name="starter_base"),
    path("models/<int:pk>/", models.model, name="model"),
    path("models/<int:pk>/alias/", models.alias_move, name="alias_move"),
    re_path(
        r"^models/(?P<pk>[0-9]+)/(?P<version>[0-9]+\.[0-9]+\.[0-9]+)/$",
        versions.version,
        name="version",
    ),
    path("datasets/", datasets.datasets, name="datasets"),
    path("datasets/new/", datasets.dataset_new, name="dataset_new"),
    path("datasets/starter/", datasets.starter_dataset, name="starter_dataset"),
    path("datasets/<int:pk>/", datasets.dataset, name="dataset"),
]
