from django.urls import path

from datasets.pages import (
    datasets,
    define,
    docs,
    editing,
    erasing,
    jobs,
    records,
    schema,
    start,
    trash,
)

app_name = "datasets"
urlpatterns = [
    path("start/", start.first_steps, name="start"),
    path("start/sample/", start.start_sample, name="start_sample"),
    path("start/token/", start.start_token, name="start_token"),
    path("datasets/", datasets.dataset_list, name="list"),
    path("datasets/new/", datasets.dataset_create, name="create"),
    path("datasets/new/define/", define.dataset_define, name="define"),
    path("datasets/new/<str:upload_id>/", datasets.dataset_review, name="review"),
    path("datasets/<str:name>/", datasets.dataset_detail, name="detail"),
    path("datasets/<str:name>/docs/", docs.dataset_docs, name="docs"),
    path("datasets/<str:name>/records/", records.dataset_records, name="records"),
    path("datasets/<str:name>/records.csv", records.dataset_records_csv, name="records_csv"),
    path("datasets/<str:name>/schema/", schema.dataset_schema, name="schema"),
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
    path("jobs/", jobs.job_list, name="jobs"),
    path("jobs/<str:job_id>/", jobs.job_detail, name="job"),
    path("jobs/<str:job_id>/cancel/", jobs.job_cancel, name="job_cancel"),
    path("jobs/<str:job_id>/retry/", jobs.job_retry, name="job_retry"),
    path("jobs/<str:job_id>/invalid.csv", jobs.job_invalid_lines, name="job_invalid_lines"),
]
