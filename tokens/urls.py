from django.urls import path

from tokens.pages import tokens, trials, usage, values

app_name = "tokens"
urlpatterns = [
    path("", tokens.token_list, name="list"),
    path("new/", tokens.token_create, name="create"),
    path("usage/", usage.usage, name="usage"),
    path("usage/export.csv", usage.usage_export, name="usage_export"),
    path("<slug:public_id>/", tokens.token_edit, name="edit"),
    path("<slug:public_id>/row/", tokens.token_row, name="row"),
    path("<slug:public_id>/state/", tokens.token_state, name="state"),
    path("<slug:public_id>/datasets/", tokens.token_datasets, name="datasets"),
    path("<slug:public_id>/test/", trials.token_test, name="test"),
    path("<slug:public_id>/undo/", tokens.token_undo, name="undo"),
    path("<slug:public_id>/apply-now/", tokens.token_apply_now, name="apply_now"),
    path("<slug:public_id>/fix/", tokens.token_fix, name="fix"),
    path("<slug:public_id>/disable/", tokens.token_disable, name="disable"),
    path("<slug:public_id>/enable/", tokens.token_enable, name="enable"),
    path("<slug:public_id>/delete/", tokens.token_delete, name="delete"),
    path("<slug:public_id>/restore/", tokens.token_restore, name="restore"),
    path("<slug:public_id>/rotate/", values.token_rotate, name="rotate"),
    path("<slug:public_id>/duplicate/", values.token_duplicate, name="duplicate"),
    path("<slug:public_id>/signing-secret/", values.token_signing_secret, name="signing_secret"),
    path("<slug:public_id>/reveal/", tokens.token_reveal, name="reveal"),
]
