from django.urls import path

from tokens import trial_views, usage_views, value_views, views

app_name = "tokens"
urlpatterns = [
    path("", views.token_list, name="list"),
    path("new/", views.token_create, name="create"),
    path("usage/", usage_views.usage, name="usage"),
    path("usage/export.csv", usage_views.usage_export, name="usage_export"),
    path("<slug:public_id>/", views.token_edit, name="edit"),
    path("<slug:public_id>/row/", views.token_row, name="row"),
    path("<slug:public_id>/state/", views.token_state, name="state"),
    path("<slug:public_id>/datasets/", views.token_datasets, name="datasets"),
    path("<slug:public_id>/test/", trial_views.token_test, name="test"),
    path("<slug:public_id>/undo/", views.token_undo, name="undo"),
    path("<slug:public_id>/apply-now/", views.token_apply_now, name="apply_now"),
    path("<slug:public_id>/fix/", views.token_fix, name="fix"),
    path("<slug:public_id>/disable/", views.token_disable, name="disable"),
    path("<slug:public_id>/enable/", views.token_enable, name="enable"),
    path("<slug:public_id>/delete/", views.token_delete, name="delete"),
    path("<slug:public_id>/restore/", views.token_restore, name="restore"),
    path("<slug:public_id>/rotate/", value_views.token_rotate, name="rotate"),
    path("<slug:public_id>/duplicate/", value_views.token_duplicate, name="duplicate"),
    path("<slug:public_id>/signing-secret/", value_views.token_signing_secret, name="signing_secret"),
    path("<slug:public_id>/reveal/", views.token_reveal, name="reveal"),
]
