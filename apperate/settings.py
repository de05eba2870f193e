"""Settings, all from the environment. Each variable is described in docs/settings.md."""

import os
from pathlib import Path

import environ
from django.core.exceptions import ImproperlyConfigured

from apperate.backup.retention import Keep, seconds_of
from apperate.database.settings import databases
from apperate.kernel.logs import logging_configuration
from apperate.observability.optional import refuse_missing
from apperate.running.configuration import choice, flag, integer, metrics, networks, public_url, secret_key
from tokens.rules.token_format import mask_in_text

BASE_DIR = Path(__file__).resolve().parent.parent
env = environ.Env()

# --- the installation -------------------------------------------------------------------------
DATA_DIR = Path(env.str("APPERATE_DATA_DIR", default=str(BASE_DIR / "var"))).expanduser().resolve()
PUBLIC_URL = public_url(os.environ, DATA_DIR)
SERVES_HTTPS = PUBLIC_URL.startswith("https://")
ACTIVATION_SECONDS = integer(os.environ, "APPERATE_ACTIVATION_SECONDS", default=120, low=0, high=86_400)
DEMO_ENABLED = flag(os.environ, "APPERATE_DEMO", default=True)
TRUSTED_PROXIES = integer(os.environ, "APPERATE_TRUSTED_PROXIES", default=0, low=0, high=10)
FAILED_TOKENS_PER_MINUTE = integer(
    os.environ, "APPERATE_FAILED_TOKENS_PER_MINUTE", default=120, low=1, high=1_000_000
)
WEBHOOK_NETWORKS = networks(os.environ, "APPERATE_WEBHOOK_NETWORKS")
WORKERS = integer(os.environ, "APPERATE_WORKERS", default=2, low=1, high=64)
UPLOAD_BYTES_MAX = integer(
    os.environ, "APPERATE_UPLOAD_BYTES_MAX", default=5_000_000_000, low=1_000, high=50_000_000_000
)
RECORD_BODY_BYTES_MAX = 10_000_000
DISK_RESERVE_MB = integer(os.environ, "APPERATE_DISK_RESERVE_MB", default=1024, low=0, high=10_000_000)
DISK_RESERVE_IS_SET = bool(os.environ.get("APPERATE_DISK_RESERVE_MB"))  # else it is less on a small disk
SLOW_REQUEST_MS = integer(os.environ, "APPERATE_SLOW_REQUEST_MS", default=2_000, low=0, high=3_600_000)
refuse_missing(os.environ)
METRICS = metrics(os.environ)
METRICS_DIR = DATA_DIR / "metrics"
BACKUP_TO = env.str("APPERATE_BACKUP_TO", default="")
BACKUP_EVERY_SECONDS = seconds_of(env.str("APPERATE_BACKUP_EVERY", default="6h"), "APPERATE_BACKUP_EVERY")
BACKUP_KEEP = Keep.of(env.str("APPERATE_BACKUP_KEEP", default="7d4w6m"), "APPERATE_BACKUP_KEEP")
_age = env.str("APPERATE_BACKUP_MAX_AGE", default="")
BACKUP_MAX_AGE_SECONDS: int = (
    seconds_of(_age, "APPERATE_BACKUP_MAX_AGE") if _age else 2 * BACKUP_EVERY_SECONDS
)
WAL_ARCHIVE = env.str("APPERATE_WAL_ARCHIVE", default="")
ADMIN_ENABLED = flag(os.environ, "APPERATE_ADMIN", default=True)

# --- Django -----------------------------------------------------------------------------------
DEBUG = flag(os.environ, "APPERATE_DEBUG", default=False)
SECRET_KEY = secret_key(os.environ, DATA_DIR)
ALLOWED_HOSTS = env.list("APPERATE_ALLOWED_HOSTS", default=["*"])
ROOT_URLCONF = "apperate.urls"
ASGI_APPLICATION = "apperate.asgi.application"
AUTH_USER_MODEL = "accounts.User"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LANGUAGE_CODE = "en-gb"
TIME_ZONE = "UTC"
USE_I18N = False
USE_TZ = True
USE_THOUSAND_SEPARATOR = True  # So templates write ids with {% url %} or |stringformat:"d".
APPEND_SLASH = False  # A redirect would lose the body of a POST.

INSTALLED_APPS = [
    "apperate.accounts",
    "apperate.team",
    "tokens",
    "datasets",
    "apperate",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "django.forms",
    "django_htmx",
    "template_partials",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.usersessions",
    "procrastinate.contrib.django",
]

# The dashboard's middleware. The data plane has its own; none of this may run for /v1/.
MIDDLEWARE = [
    "apperate.http.middleware.RequestId",
    "apperate.http.middleware.SecurityHeaders",
    "apperate.http.health.Health",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "apperate.accounts.sign_in.session_limits.SessionLimits",
    "apperate.http.middleware.HtmxLoginRedirect",
    "apperate.http.middleware.Toasts",
    "allauth.account.middleware.AccountMiddleware",
    "apperate.accounts.middleware.CurrentWorkspace",
    "apperate.accounts.middleware.AuditAddress",
]
DATA_PLANE_URLCONF = "datasets.api.urls"
DATA_PLANE_MIDDLEWARE = [
    "tokens.gate.authentication.TokenAuthentication",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "apperate.dashboard.context.shell",
            ],
            "builtins": ["apperate.templatetags.ui", "template_partials.templatetags.partials"],
        },
    }
]
FORM_RENDERER = "apperate.dashboard.forms.FormRenderer"
MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"

# --- database, cache, files -------------------------------------------------------------------
DATABASES = databases(DATA_DIR, os.environ, pooled=flag(os.environ, "APPERATE_POOLED", default=False))
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.db.DatabaseCache",
        "LOCATION": "apperate_cache",
        # Django's 300 would let somebody push out the limits of sign-in, which are kept here, by filling it.
        "OPTIONS": {"MAX_ENTRIES": 100_000},
    }
}
STATIC_URL = "/static/"
STATIC_ROOT = DATA_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG
        else "apperate.http.static_files.CollectedStaticFiles"
    },
}
WHITENOISE_USE_FINDERS = DEBUG
INGEST_DIR = DATA_DIR / "ingest"
# More than one host may share a database of its own; the embedded one is on this host alone.
UPLOADS = choice(
    os.environ,
    "APPERATE_UPLOADS",
    default="database" if os.environ.get("DATABASE_URL") else "folder",
    among=("database", "folder"),
)
DATA_UPLOAD_MAX_MEMORY_SIZE = 2_500_000
DATA_UPLOAD_MAX_NUMBER_FIELDS = 50_000  # The permission picker posts one field per granted action.

# --- people -----------------------------------------------------------------------------------
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 8},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
ACCOUNT_ADAPTER = "apperate.accounts.sign_in.adapter.AccountAdapter"
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*", "password2*"]
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_EMAIL_VERIFICATION = "none"  # People are invited, which proves the address.
ACCOUNT_LOGOUT_ON_GET = False
MFA_ADAPTER = "apperate.accounts.sign_in.factor_adapter.FactorAdapter"
USERSESSIONS_ADAPTER = "apperate.accounts.sign_in.adapter.SessionAdapter"
ACCOUNT_SESSION_REMEMBER = True
ACCOUNT_PREVENT_ENUMERATION = True
ACCOUNT_EMAIL_SUBJECT_PREFIX = "[Apperate] "
ACCOUNT_REAUTHENTICATION_REQUIRED = True  # Before an address is added, chosen or removed.
ACCOUNT_REAUTHENTICATION_TIMEOUT = 600
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "/"
ACCOUNT_LOGOUT_REDIRECT_URL = "account_login"
PASSWORD_RESET_TIMEOUT = 3600
EMAIL_CONFIG = env.email_url("EMAIL_URL", default="consolemail://")
vars().update(EMAIL_CONFIG)
if SERVES_HTTPS and EMAIL_CONFIG["EMAIL_BACKEND"].endswith("console.EmailBackend"):
    # Anyone who reads the log could use the links.
    EMAIL_BACKEND = "apperate.accounts.sign_in.unsent.EmailBackend"
DEFAULT_FROM_EMAIL = env.str("APPERATE_FROM_EMAIL", default="Apperate <apperate@localhost>")
INVITATION_DAYS = 7

# --- security headers and cookies -------------------------------------------------------------
SECURE_CSP = {
    "default-src": ["'none'"],
    "script-src": ["'self'"],
    "style-src": ["'self'"],
    "img-src": ["'self'"],
    "font-src": ["'self'"],
    "connect-src": ["'self'"],
    "form-action": ["'self'"],
    "base-uri": ["'none'"],
    "frame-ancestors": ["'none'"],
}
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_AGE = 14 * 86_400
CSRF_COOKIE_HTTPONLY = True
if SERVES_HTTPS:
    SECURE_SSL_REDIRECT = True
    SECURE_HSTS_SECONDS = 31_536_000
    SECURE_HSTS_INCLUDE_SUBDOMAINS = True
    SECURE_HSTS_PRELOAD = True
    SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True
    SESSION_COOKIE_NAME = "__Host-session"
    CSRF_COOKIE_NAME = "__Host-csrf"
    CSRF_TRUSTED_ORIGINS = [PUBLIC_URL]
    if TRUSTED_PROXIES:
        SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
elif PUBLIC_URL.startswith("http://") is False:
    raise ImproperlyConfigured("APPERATE_PUBLIC_URL must start with http:// or https://.")

LOGGING = logging_configuration(mask_in_text)
PROCRASTINATE_ON_APP_READY = None
# A killed worker is detected by its missing heartbeat, so heartbeats are frequent.
PROCRASTINATE_WORKER_DEFAULTS = {"update_heartbeat_interval": 2.0, "stalled_worker_timeout": 15.0}
