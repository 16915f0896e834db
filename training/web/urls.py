"""Pages of training jobs and sweeps."""

from django.urls import path, re_path

from training.web.views import form, job, jobs, start, sweeps

urlpatterns = [
    path("start/", start.start, name="start"),
    path("start/file/<str:key>/", start.start_file, name="start_file"),
    path("start/data/<int:pk>/", start.start_data, name="start_data"),
    path("start/setup/<int:pk>/", start.setup, name="setup"),
    path("start/setup/<int:pk>/retry/", start.setup_retry, name="setup_retry"),
    path("training/", jobs.jobs, name="jobs"),
    path("training/line/", jobs.line, name="job_line"),
    path("training/selected/<str:action>/", jobs.selected, name="jobs_selected"),
    path("training/new/", form.job_new, name="job_new"),
    path("training/new/plan/", form.plan, name="job_plan"),
    re_path(r"^training/new/(?P<name>model|dataset)/$", form.rows, name="job_rows"),
    path("training/sweeps/", sweeps.sweep_list, name="sweeps"),
    path("training/sweeps/selected/<str:action>/", sweeps.selected, name="sweeps_selected"),
    path("training/sweeps/<int:pk>/", sweeps.sweep, name="sweep"),
    path("training/sweeps/<int:pk>/cancel/", sweeps.sweep_cancel, name="sweep_cancel"),
    path("training/<int:pk>/", job.job, name="job"),
    path("training/<int:pk>/metrics.json", job.metrics, name="job_metrics"),
    path("training/<int:pk>/runs/", job.runs, name="job_runs"),
    path("training/<int:pk>/measured/", job.measured, name="job_measured"),
    path("training/<int:pk>/log/", job.log, name="job_log"),
    path("training/<int:pk>/log.txt", job.log_file, name="job_log_file"),
    path("training/<int:pk>/cancel/", jobs.cancel, name="job_cancel"),
    path("training/<int:pk>/retry/", jobs.retry, name="job_retry"),
    path("training/<int:pk>/retry-halved/", jobs.retry_halved, name="job_retry_halved"),
    path("training/<int:pk>/pause/", jobs.pause, name="job_pause"),
    path("training/<int:pk>/resume/", jobs.resume, name="job_resume"),
    path("training/<int:pk>/priority/", jobs.prioritize, name="job_priority"),
    re_path(
        r"^models/(?P<pk>[0-9]+)/(?P<version>[0-9]+\.[0-9]+\.[0-9]+)/reproduce/$",
        job.version_reproduce,
        name="version_reproduce",
    ),
    path("training/<int:pk>/move/<str:where>/", jobs.move, name="job_move"),
]
