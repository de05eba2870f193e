"""All records of a dataset, one after the other, for exports of a whole workspace and for nothing else."""

from collections.abc import Iterator

from django.db import connection

ROWS_AT_ONCE = 2_000
# Every record of a dataset, in the order of its primary key.
RECORDS = "SELECT data::text FROM records WHERE dataset_id = %s ORDER BY key, date, subkey, shard"
# Every record in its trash. Index: datasets_deletion by dataset, deleted_records by deletion.
DELETED = """
SELECT g.data::text FROM deleted_records g JOIN datasets_deletion d ON d.id = g.deletion_id
 WHERE d.dataset_id = %s ORDER BY d.deleted_at, d.id
"""


def texts(dataset_id: int, *, deleted: bool = False) -> Iterator[str]:
    """The JSON text of each record, as written, or of each in the trash. Inside a transaction."""
    with connection.chunked_cursor() as cursor:
        cursor.execute(DELETED if deleted else RECORDS, [dataset_id])
        while rows := cursor.fetchmany(ROWS_AT_ONCE):
            for (text,) in rows:
                yield text
