from django.urls import path

from datasets.pages import (
    datasets,
    define_views,
    docs_views,
    editing,
    erasing,
    job_views,
    schema_views,
    start_views,
    trash,
)

app_name = "datasets"
urlpatterns = [
    path("start/", start_views.first_steps, name="start"),
    path("start/sample/", start_views.start_sample, name="start_sample"),
    path("start/token/", start_views.start_token, name="start_token"),
    path("datasets/", datasets.dataset_list, name="list"),
    path("datasets/new/", datasets.dataset_create, name="create"),
    path("datasets/new/define/", define_views.dataset_define, name="define"),
    path("datasets/new/<str:upload_id>/", datasets.dataset_review, name="review"),
    path("datasets/<str:name>/", datasets.dataset_detail, name="detail"),
    path("datasets/<str:name>/docs/", docs_views.dataset_docs, name="docs"),
    path("datasets/<str:name>/records/", schema_views.dataset_records, name="records"),
    path("datasets/<str:name>/records.csv", schema_views.dataset_records_csv, name="records_csv"),
    path("datasets/<str:name>/schema/", schema_views.dataset_schema, name="schema"),
    path("datasets/<str:name>/add/", datasets.dataset_add, name="add"),
    path("datasets/<str:name>/details/", editing.dataset_details, name="details"),
    path("datasets/<str:name>/rename/", editing.dataset_rename, name="rename"),
    path("datasets/<str:name>/delete/", trash.dataset_delete, name="delete"),
    path("datasets/<str:name>/restore/", trash.dataset_restore, name="restore"),
    path("datasets/<str:name>/erase/", erasing.dataset_erase, name="erase"),
    path(
        "datasets/<str:name>/deletions/<int:deletion_id>/erase/",
        erasing.records_erase,
        name="erase_records",
    ),
    path(
        "datasets/<str:name>/deletions/<int:deletion_id>/restore/",
        trash.records_restore,
        name="restore_records",
    ),
    path("jobs/", job_views.job_list, name="jobs"),
    path("jobs/<str:job_id>/", job_views.job_detail, name="job"),
    path("jobs/<str:job_id>/cancel/", job_views.job_cancel, name="job_cancel"),
    path("jobs/<str:job_id>/retry/", job_views.job_retry, name="job_retry"),
    path("jobs/<str:job_id>/invalid.csv", job_views.job_invalid_lines, name="job_invalid_lines"),
]
