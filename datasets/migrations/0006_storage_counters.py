"""The counters of storage, begun with what is there.

Small tables are counted here; nothing is locked. Of more than a gigabyte of records that could take minutes:
there the counters begin at nothing, and the upkeep counts within the hour (storage_recount.py).
"""

import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models

# What a row counts for is said in datasets/storage/limits.py.
COUNT = """
INSERT INTO datasets_storagecounter (workspace_id, slot, bytes)
SELECT d.workspace_id, 0,
       sum(octet_length(r.data::text) + octet_length(r.key) + octet_length(r.subkey) + 100)
  FROM (SELECT dataset_id, key, subkey, data FROM records
         UNION ALL SELECT dataset_id, key, subkey, data FROM deleted_records) r
  JOIN datasets_dataset d ON d.id = r.dataset_id
 WHERE pg_table_size('records') + pg_table_size('deleted_records') < 1000000000
 GROUP BY d.workspace_id
"""


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0008_audit_chain'),
        ('datasets', '0005_job_kinds'),
    ]

    operations = [
        migrations.CreateModel(
            name='StagedFile',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=40, unique=True)),
                ('bytes', models.BigIntegerField()),
                ('staged_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('workspace', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='accounts.workspace')),
            ],
        ),
        migrations.CreateModel(
            name='StorageRecount',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('counted_at', models.DateTimeField()),
                ('workspace', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='accounts.workspace')),
            ],
        ),
        migrations.CreateModel(
            name='StorageReservation',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('job_id', models.BigIntegerField(unique=True)),
                ('run_number', models.PositiveIntegerField()),
                ('bytes', models.BigIntegerField()),
                ('workspace', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='accounts.workspace')),
            ],
        ),
        migrations.CreateModel(
            name='StorageCounter',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('slot', models.SmallIntegerField()),
                ('bytes', models.BigIntegerField(default=0)),
                ('workspace', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='accounts.workspace')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('workspace', 'slot'), name='datasets_storagecounter_once')],
            },
        ),
        migrations.AddField(
            model_name='ingestjob',
            name='refusal_code',
            field=models.CharField(blank=True, db_default='', default='', max_length=40),
        ),
        migrations.RunSQL(COUNT, migrations.RunSQL.noop),
    ]
