from django.urls import path

from apperate.accounts import views

urlpatterns = [
    path("w/switch/<str:name>/", views.workspace_switch, name="workspace_switch"),
]
