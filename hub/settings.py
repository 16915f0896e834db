"""Django's settings, mapped from `hub.config`; nothing is decided twice."""

from __future__ import annotations

import logging
import sys
from datetime import timedelta
from typing import Any

from django.utils.csp import CSP

from hub import lean  # noqa: F401  # before all that import structlog or huey
from hub.config import COMMAND as TYPED
from hub.config import HOME, config
from hub.databases import settings_for
from hub.monitoring.logs import logging_config, process_name
from hub.sqlite import journal_mode

BASE_DIR = HOME
STORAGE = config.storage
BACKEND = config.backend
HEARTBEAT_TIMEOUT_S = config.heartbeat_timeout_s
MLFLOW_TRACKING_URI = config.mlflow_tracking_uri
IS_LOOPBACK = config.is_loopback
COMMAND = TYPED
HUB_URL = config.url
SECRET_KEY = config.stored_secret_key()
DEBUG = config.debug
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "[::1]", *config.allowed_hosts]
CORS_ORIGINS = config.cors_origins

_NO_PAGES = ("engine", "background", "worker", "sampler", "job")

# Their imports are a third of a child's start, and a child answers no request.
_OF_PAGES = [
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_structlog",
    "channels",
    "django.contrib.admin.apps.SimpleAdminConfig",  # `hub.urls` looks for the tables
    "django_htmx",
    "django_prometheus",
    "ninja",  # serves the scripts of the API's documentation from here, not from a CDN
    "axes",
]

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    *([] if process_name(sys.argv) in _NO_PAGES else _OF_PAGES),
    "huey.contrib.djhuey",
    "hub",
    "registry",
    "training",
    "inference",
]

MIDDLEWARE = [
    "hub.web.inloop.PrometheusBeforeMiddleware",
    "hub.web.middleware.HostMiddleware",
    "hub.web.cors.CorsMiddleware",
    "hub.web.middleware.ShapeMiddleware",
    "hub.web.inloop.SecurityMiddleware",
    "hub.web.middleware.StaticFilesMiddleware",
    "hub.web.inloop.ContentSecurityPolicyMiddleware",
    "hub.web.inloop.SessionMiddleware",
    "hub.web.inloop.RequestMiddleware",
    "hub.web.inloop.CommonMiddleware",
    "hub.web.inloop.CsrfViewMiddleware",
    "hub.web.inloop.AuthenticationMiddleware",
    "hub.web.middleware.SettingsMiddleware",
    "hub.web.middleware.TokenMiddleware",
    "hub.web.middleware.SameOriginMiddleware",
    "hub.web.inloop.MessageMiddleware",
    "hub.web.inloop.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "hub.web.inloop.PrometheusAfterMiddleware",
    "axes.middleware.AxesMiddleware",  # last: a sign-in that is refused passes all the others
]

ROOT_URLCONF = "hub.urls"
ASGI_APPLICATION = "hub.asgi.application"

TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

DATABASES = {"default": settings_for(config.database_url)}
NINJA_PAGINATION_MAX_LIMIT = 500
# Above what the schemas allow: 256 texts to embed, of a long context each.
DATA_UPLOAD_MAX_MEMORY_SIZE = 64 << 20
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Huey's defaults are Redis, and `immediate` under DEBUG, so both are set here.
HUEY = {
    "name": "training",
    "huey_class": "huey.SqliteHuey",
    "filename": str(config.storage / "huey.sqlite3"),
    "journal_mode": journal_mode().lower(),
    "immediate": False,
    "results": False,
    "utc": True,
    # SqliteHuey polls; by default an idle worker would poll only every 10 s.
    "consumer": {"workers": 1, "worker_type": "thread", "periodic": True, "max_delay": 0.5},
}

CHANNEL_LAYERS: dict[str, Any] = {}  # tokens are sent directly by the consumer that requested them

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]

AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",  # refuses before a password is hashed
    "django.contrib.auth.backends.ModelBackend",
]
AXES_ENABLED = not config.is_loopback  # at the machine itself nobody is asked to sign in
AXES_FAILURE_LIMIT = 10
AXES_COOLOFF_TIME = timedelta(minutes=15)
AXES_LOCKOUT_PARAMETERS = ["ip_address", "username"]
AXES_LOCKOUT_CALLABLE = "hub.web.access.locked_out"
AXES_DISABLE_ACCESS_LOG = True
AXES_VERBOSE = False

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_I18N = False
USE_TZ = True

STATIC_URL = "static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = DEBUG

SECURE_CSP = {
    "default-src": [CSP.SELF],
    "script-src": [CSP.SELF],
    "style-src": [CSP.SELF],
    "img-src": [CSP.SELF, "data:"],
    "connect-src": [CSP.SELF],
    "frame-ancestors": [CSP.NONE],
    "base-uri": [CSP.SELF],
    "form-action": [CSP.SELF],
}
X_FRAME_OPTIONS = "DENY"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SAMESITE = "Lax"

# `check --deploy` looks for Django's own middleware; `hub.web.inloop` has subclasses of them.
SILENCED_SYSTEM_CHECKS = [
    "security.W001",
    "security.W002",
    "security.W003",
    "security.W010",  # the hub speaks plain HTTP, on loopback or through a tunnel: see operations
]

LOG_PROMPTS = config.log_prompts
AUDIT_DAYS = config.audit_days
TRACE_URL = config.trace_url
MAX_QUEUE = config.max_queue
UNKNOWN_PARAMETERS = config.unknown_parameters
REQUEST_DEADLINE_S = config.request_deadline_s
DRAIN_S = config.drain_s
MODEL_IDLE_S = config.model_idle_s
PREFIX_CACHE_BYTES = config.prefix_cache_bytes
PREFIX_CACHE_ON_DISK = config.prefix_cache_on_disk
KV_BITS = config.kv_bits
KV_AFTER = config.kv_after
DRAFT_MODEL = config.draft_model
DRAFT_TOKENS = config.draft_tokens
PROMPT_LOOKUP = config.prompt_lookup
MEMORY_BUDGET_BYTES = config.memory_budget_bytes
MODEL_FOLDERS = [] if config.model_folders == ["none"] else config.model_folders
TRAINING_YIELD_S = config.training_yield_s
TRAINING_ON_BATTERY = config.training_on_battery
HALVE_BATCH_SIZE = config.halve_batch_size
PHONE_REGIONS = config.phone_regions

LOGGING = logging_config(config)
PROMETHEUS_EXPORT_MIGRATIONS = False
DJANGO_STRUCTLOG_USER_ID_FIELD = None
DJANGO_STRUCTLOG_IP_LOGGING_ENABLED = False
# Pages poll and Prometheus scrapes, so successful requests are logged at DEBUG only.
DJANGO_STRUCTLOG_STATUS_START_LOG_LEVEL = logging.DEBUG
DJANGO_STRUCTLOG_STATUS_2XX_LOG_LEVEL = logging.DEBUG
DJANGO_STRUCTLOG_STATUS_DEFAULT_LOG_LEVEL = logging.DEBUG
DJANGO_STRUCTLOG_REQUEST_CANCELLED_LOG_LEVEL = logging.INFO
