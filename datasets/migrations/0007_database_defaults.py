"""The database fills in what an older server leaves out: each default of the code is one of the column too.

Not one transaction: it would keep one table locked while it waits for the next, which a transaction of a
server may hold that waits for the first. To set a default twice does no harm.
"""

import django.db.models.functions.datetime
import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ('datasets', '0006_storage_counters'),
    ]

    operations = [
        migrations.AlterField(
            model_name='dataset',
            name='changed_xid',
            field=models.BigIntegerField(db_default=0, db_index=True, default=0, editable=False),
        ),
        migrations.AlterField(
            model_name='dataset',
            name='column_mapping',
            field=models.JSONField(db_default={}, default=dict),
        ),
        migrations.AlterField(
            model_name='dataset',
            name='created_at',
            field=models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), default=django.utils.timezone.now),
        ),
        migrations.AlterField(
            model_name='dataset',
            name='credits_per_record',
            field=models.PositiveIntegerField(db_default=0, default=0),
        ),
        migrations.AlterField(
            model_name='dataset',
            name='description',
            field=models.TextField(blank=True, db_default='', default='', max_length=5000),
        ),
        migrations.AlterField(
            model_name='dataset',
            name='email',
            field=models.EmailField(blank=True, db_default='', default='', max_length=254),
        ),
        migrations.AlterField(
            model_name='dataset',
            name='is_wide',
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.AlterField(
            model_name='dataset',
            name='smart_link_attributes',
            field=models.JSONField(db_default=[], default=list),
        ),
        migrations.AlterField(
            model_name='dataset',
            name='source',
            field=models.CharField(blank=True, db_default='', default='', max_length=500),
        ),
        migrations.AlterField(
            model_name='dataset',
            name='title',
            field=models.CharField(blank=True, db_default='', default='', max_length=200),
        ),
        migrations.AlterField(
            model_name='dataset',
            name='updated_at',
            field=models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), default=django.utils.timezone.now),
        ),
        migrations.AlterField(
            model_name='dataset',
            name='version',
            field=models.PositiveIntegerField(db_default=1, default=1),
        ),
        migrations.AlterField(
            model_name='deletion',
            name='deleted_at',
            field=models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), default=django.utils.timezone.now),
        ),
        migrations.AlterField(
            model_name='deletion',
            name='records',
            field=models.BigIntegerField(db_default=0, default=0),
        ),
        migrations.AlterField(
            model_name='deletion',
            name='subkey',
            field=models.TextField(blank=True, db_default='', default=''),
        ),
        migrations.AlterField(
            model_name='ingestjob',
            name='bytes_done',
            field=models.BigIntegerField(db_default=0, default=0),
        ),
        migrations.AlterField(
            model_name='ingestjob',
            name='created_at',
            field=models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), default=django.utils.timezone.now),
        ),
        migrations.AlterField(
            model_name='ingestjob',
            name='duplicates',
            field=models.BigIntegerField(db_default=0, default=0),
        ),
        migrations.AlterField(
            model_name='ingestjob',
            name='file_name',
            field=models.CharField(blank=True, db_default='', default='', max_length=255),
        ),
        migrations.AlterField(
            model_name='ingestjob',
            name='invalid',
            field=models.BigIntegerField(db_default=0, default=0),
        ),
        migrations.AlterField(
            model_name='ingestjob',
            name='kind',
            field=models.CharField(choices=[('INGEST', 'Upload'), ('DELETE', 'Delete'), ('RESTORE', 'Restore')], db_default='INGEST', default='INGEST', max_length=7),
        ),
        migrations.AlterField(
            model_name='ingestjob',
            name='last_good_status',
            field=models.CharField(choices=[('CREATED', 'Waiting'), ('VALIDATING', 'Checking'), ('PROCESSING', 'Writing'), ('INGESTED', 'Complete'), ('ERROR', 'Failed'), ('CANCELLED', 'Cancelled')], db_default='CREATED', default='CREATED', max_length=10),
        ),
        migrations.AlterField(
            model_name='ingestjob',
            name='lines',
            field=models.BigIntegerField(db_default=0, default=0),
        ),
        migrations.AlterField(
            model_name='ingestjob',
            name='message',
            field=models.TextField(blank=True, db_default='', default=''),
        ),
        migrations.AlterField(
            model_name='ingestjob',
            name='replaces_duplicates',
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.AlterField(
            model_name='ingestjob',
            name='rows_done',
            field=models.BigIntegerField(db_default=0, default=0),
        ),
        migrations.AlterField(
            model_name='ingestjob',
            name='run_number',
            field=models.PositiveIntegerField(db_default=0, default=0),
        ),
        migrations.AlterField(
            model_name='ingestjob',
            name='size_bytes',
            field=models.BigIntegerField(db_default=0, default=0),
        ),
        migrations.AlterField(
            model_name='ingestjob',
            name='status',
            field=models.CharField(choices=[('CREATED', 'Waiting'), ('VALIDATING', 'Checking'), ('PROCESSING', 'Writing'), ('INGESTED', 'Complete'), ('ERROR', 'Failed'), ('CANCELLED', 'Cancelled')], db_default='CREATED', default='CREATED', max_length=10),
        ),
        migrations.AlterField(
            model_name='ingestjob',
            name='stored',
            field=models.BigIntegerField(db_default=0, default=0),
        ),
        migrations.AlterField(
            model_name='stagedfile',
            name='staged_at',
            field=models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), default=django.utils.timezone.now),
        ),
        migrations.AlterField(
            model_name='storagecounter',
            name='bytes',
            field=models.BigIntegerField(db_default=0, default=0),
        ),
    ]
