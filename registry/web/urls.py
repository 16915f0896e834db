"""Pages of models, versions and data sets."""

from django.urls import path, re_path

from registry.web.views import (
    aliases,
    audit,
    bases,
    bundles,
    compare,
    datasets,
    examination,
    models,
    previews,
    rows,
    runs,
    storage,
    versions,
)

urlpatterns = [
    path("models/", models.models, name="models"),
    path("models/new/", models.model_new, name="model_new"),
    path("models/import/", bundles.bundle_import, name="bundle_import"),
    path("models/import/<int:pk>/", bundles.bundle_task, name="bundle_task"),
    path("models/import/<int:pk>/retry/", bundles.bundle_task_retry, name="bundle_task_retry"),
    path("models/starter/", bases.starter_base, name="starter_base"),
    path("models/<int:pk>/", models.model, name="model"),
    path("models/<int:pk>/runs/", runs.model_runs, name="model_runs"),
    path("models/<int:pk>/promotion/", models.model_promotion, name="model_promotion"),
    path("models/<int:pk>/card/", models.model_about, name="model_about"),
    path("models/<int:pk>/storage/", models.model_storage, name="model_storage"),
    path("models/<int:pk>/remove/", storage.model_remove, name="model_remove"),
    path("models/<int:pk>/restore/", storage.model_restore, name="model_restore"),
    re_path(
        r"^models/(?P<pk>[0-9]+)/(?P<version>[0-9]+\.[0-9]+\.[0-9]+)/"
        r"(?P<action>archive|restore|verify)/$",
        storage.version_move,
        name="version_move",
    ),
    path("models/<int:pk>/edit/", models.model_edit, name="model_edit"),
    path("models/<int:pk>/README.md", models.model_card, name="model_card"),
    path("models/<int:pk>/alias/", aliases.alias_move, name="alias_move"),
    path("models/<int:pk>/alias/<str:name>/rollback/", aliases.alias_rollback, name="rollback"),
    path("models/<int:pk>/alias/<str:name>/delete/", aliases.alias_delete, name="alias_delete"),
    path("models/<int:pk>/rules/", aliases.rule_add, name="rule_add"),
    path("models/<int:pk>/rules/<int:rule>/delete/", aliases.rule_delete, name="rule_delete"),
    re_path(
        r"^models/(?P<pk>[0-9]+)/(?P<version>[0-9]+\.[0-9]+\.[0-9]+)/$",
        versions.version,
        name="version",
    ),
    re_path(
        r"^models/(?P<pk>[0-9]+)/(?P<version>[0-9]+\.[0-9]+\.[0-9]+)/"
        r"(?P<tab>scores|training|lineage|files)/$",
        versions.version_tab,
        name="version_tab",
    ),
    re_path(
        r"^models/(?P<pk>[0-9]+)/(?P<version>[0-9]+\.[0-9]+\.[0-9]+)/promote/$",
        versions.version_promote,
        name="version_promote",
    ),
    re_path(
        r"^models/(?P<pk>[0-9]+)/(?P<version>[0-9]+\.[0-9]+\.[0-9]+)/notes/$",
        versions.notes,
        name="version_notes",
    ),
    re_path(
        r"^models/(?P<pk>[0-9]+)/(?P<version>[0-9]+\.[0-9]+\.[0-9]+)/code.diff$",
        versions.version_diff,
        name="version_diff",
    ),
    path("compare/", compare.compare, name="compare"),
    path("bases/", bases.bases, name="bases"),
    path("bases/<int:pk>/", bases.base, name="base"),
    path("bases/<int:pk>/quantize/", bases.base_quantize, name="base_quantize"),
    path("bases/imports/<int:pk>/retry/", bases.import_retry, name="import_retry"),
    path("bases/imports/<int:pk>/pause/", bases.import_pause, name="import_pause"),
    re_path(
        r"^models/(?P<pk>[0-9]+)/(?P<version>[0-9]+\.[0-9]+\.[0-9]+)/exports/$",
        bases.version_exports,
        name="version_exports",
    ),
    re_path(
        r"^models/(?P<pk>[0-9]+)/(?P<version>[0-9]+\.[0-9]+\.[0-9]+)/exports/"
        r"(?P<form>adapter|fused|gguf)/$",
        bases.export_file,
        name="export_file",
    ),
    re_path(
        r"^models/(?P<pk>[0-9]+)/(?P<version>[0-9]+\.[0-9]+\.[0-9]+)/fuse/$",
        bases.version_fuse,
        name="version_fuse",
    ),
    path("system/audit/", audit.audit_log, name="audit"),
    path("datasets/", datasets.datasets, name="datasets"),
    path("datasets/new/", previews.dataset_new, name="dataset_new"),
    path("datasets/new/<str:key>/", previews.dataset_preview, name="dataset_preview"),
    path("datasets/starter/", datasets.starter_dataset, name="starter_dataset"),
    path("datasets/tasks/<int:pk>/", datasets.dataset_task, name="dataset_task"),
    path("datasets/tasks/<int:pk>/retry/", datasets.dataset_task_retry, name="dataset_task_retry"),
    path("datasets/<int:pk>/", datasets.dataset, name="dataset"),
    path("datasets/<int:pk>/rows/", rows.dataset_rows, name="dataset_rows"),
    path("datasets/<int:pk>/rows/check/", rows.dataset_check, name="dataset_check"),
    path("datasets/<int:pk>/rows/<str:split>/<int:line>/", rows.dataset_row, name="dataset_row"),
    path("datasets/<int:pk>/changes/", rows.dataset_changes, name="dataset_changes"),
    path("datasets/<int:pk>/doctor/", examination.dataset_doctor, name="dataset_doctor"),
]
