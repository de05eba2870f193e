from django.urls import path

from apperate.accounts import views

urlpatterns = [
    path("join/<str:token>/", views.invitation_accept, name="invitation_accept"),
    path("w/switch/<str:name>/", views.workspace_switch, name="workspace_switch"),
]
