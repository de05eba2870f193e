"""The URL of every page. The API's routes are in datasets/api/urls.py; asgi.py chooses by path."""

from allauth.account import views as account_views
from allauth.mfa.recovery_codes import views as recovery_views
from allauth.mfa.totp import views as totp_views
from allauth.usersessions import views as session_views
from django.conf import settings
from django.contrib import admin
from django.db import transaction
from django.urls import URLPattern, URLResolver, include, path

from apperate import views
from apperate.accounts.decorators import public
from apperate.http import health

# allauth's pages that change an account: each in one transaction with its audit row.
WHOLE = (
    ("email/", account_views.email, "account_email"),
    ("confirm-email/<str:key>/", account_views.confirm_email, "account_confirm_email"),
    ("2fa/totp/activate/", totp_views.activate_totp, "mfa_activate_totp"),
    ("2fa/totp/deactivate/", totp_views.deactivate_totp, "mfa_deactivate_totp"),
    ("sessions/", session_views.list_usersessions, "usersessions_list"),
    ("2fa/recovery-codes/generate/", recovery_views.generate_recovery_codes, "mfa_generate_recovery_codes"),
)
urlpatterns: list[URLPattern | URLResolver] = [
    path("", views.home, name="home"),
    *(path(f"account/{route}", transaction.atomic(view), name=name) for route, view, name in WHOLE),
    path("account/", include("allauth.urls")),
    path("theme/", views.theme, name="theme"),
    path("docs/", views.docs, name="docs"),
    path("docs/errors/", views.docs_errors, name="docs_errors"),
    path("docs/<slug:slug>/", views.docs_guide, name="docs_guide"),
    path("livez", public(health.livez), name="livez"),
    path("readyz", public(health.readyz), name="readyz"),
    path("", include("apperate.accounts.urls")),
    path("team/", include("apperate.team.urls")),
    path("tokens/", include("tokens.urls")),
    path("", include("datasets.urls")),
]
if settings.ADMIN_ENABLED:
    urlpatterns.append(path("operator/", admin.site.urls))

handler400 = "apperate.views.bad_request"
handler500 = "apperate.views.server_error"
