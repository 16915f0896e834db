"""Pages of training jobs."""

from django.urls import path

from training import views

urlpatterns = [
    path("training/", views.jobs, name="jobs"),
    path("training/new/", views.job_new, name="job_new"),
    path("training/new/number/", views.job_number, name="job_number"),
    path("training/<int:pk>/", views.job, name="job"),
    path("training/<int:pk>/metrics.json", views.metrics, name="job_metrics"),
    path("training/<int:pk>/log/", views.job_log, name="job_log"),
    path("training/<int:pk>/cancel/", views.job_cancel, name="job_cancel"),
    path("training/<int:pk>/retry/", views.job_retry, name="job_retry"),
]
