"""The table of all records, and the one that keeps what was deleted of them for a day.

Type json keeps the text as written; COLLATE "C" compares keys byte by byte, as the API does. The primary
key serves key-and-date ranges and contains the shard, so that the table can be distributed.
"""

from importlib import import_module

from django.db import migrations

stamp = import_module("apperate.accounts.migrations.0002_stamp_changes").stamp

RECORDS = """
CREATE TABLE records (
    dataset_id integer NOT NULL,
    shard smallint NOT NULL DEFAULT 0,
    key text COLLATE "C" NOT NULL,
    subkey text COLLATE "C" NOT NULL DEFAULT '',
    date timestamptz NOT NULL,
    updated timestamptz NOT NULL DEFAULT now(),
    data json NOT NULL,
    PRIMARY KEY (dataset_id, key, date, subkey, shard)
);
CREATE INDEX records_by_date ON records (dataset_id, date, key, subkey);
CREATE TABLE deleted_records (
    deletion_id bigint NOT NULL,
    dataset_id integer NOT NULL,
    shard smallint NOT NULL,
    key text COLLATE "C" NOT NULL,
    subkey text COLLATE "C" NOT NULL,
    date timestamptz NOT NULL,
    updated timestamptz NOT NULL,
    data json NOT NULL,
    PRIMARY KEY (deletion_id, dataset_id, key, date, subkey, shard)
);
"""


class Migration(migrations.Migration):
    dependencies = [("datasets", "0001_initial"), ("accounts", "0002_stamp_changes")]

    operations = [
        migrations.RunSQL(RECORDS, "DROP TABLE deleted_records; DROP TABLE records"),
        stamp("datasets_dataset"),
    ]
