"""Every address. The dashboard and the data plane share this list; asgi.py chooses the chain by path."""

from django.conf import settings
from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path

from apperate import views

urlpatterns: list[URLPattern | URLResolver] = [
    path("", views.home, name="home"),
    path("account/", include("allauth.urls")),
    path("theme/", views.theme, name="theme"),
    path("docs/", views.docs, name="docs"),
    path("docs/errors/", views.docs_errors, name="docs_errors"),
    path("livez", views.livez, name="livez"),
    path("readyz", views.readyz, name="readyz"),
    path("", include("apperate.accounts.urls")),
    path("team/", include("apperate.team.urls")),
    path("tokens/", include("tokens.urls")),
    path("", include("datasets.urls")),
]
if settings.ADMIN_ENABLED:
    urlpatterns.append(path("operator/", admin.site.urls))

handler400 = "apperate.views.bad_request"
handler500 = "apperate.views.server_error"
