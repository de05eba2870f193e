from django.urls import path

from apperate.team import views, workspace_views

app_name = "team"
urlpatterns = [
    path("", views.members, name="members"),
    path("invite/", views.invite, name="invite"),
    path("invitations/<int:pk>/resend/", views.invitation_resend, name="invitation_resend"),
    path("invitations/<int:pk>/withdraw/", views.invitation_withdraw, name="invitation_withdraw"),
    path("audit-log/", views.audit_log, name="audit_log"),
    path("audit-log/export.csv", views.audit_log_export, name="audit_log_export"),
    path("members/<int:pk>/role/", views.member_role, name="member_role"),
    path("members/<int:pk>/remove/", views.member_remove, name="member_remove"),
    path("workspace/", workspace_views.workspace, name="workspace"),
    path("workspace/security/", workspace_views.security_save, name="security_save"),
    path("workspace/webhook/", workspace_views.webhook_save, name="webhook_save"),
    path("workspace/webhook/secret/", workspace_views.webhook_secret, name="webhook_secret"),
    path("workspace/webhook/remove/", workspace_views.webhook_remove, name="webhook_remove"),
    path("workspace/webhook/test/", workspace_views.webhook_test, name="webhook_test"),
]
