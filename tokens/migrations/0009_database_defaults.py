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
        ('tokens', '0008_token_refusals'),
    ]

    operations = [
        migrations.AlterField(
            model_name='creditwindow',
            name='used',
            field=models.BigIntegerField(db_default=0, default=0),
        ),
        migrations.AlterField(
            model_name='grant',
            name='can_delete',
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.AlterField(
            model_name='grant',
            name='can_read',
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.AlterField(
            model_name='grant',
            name='can_write',
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.AlterField(
            model_name='revision',
            name='all_datasets_delete',
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.AlterField(
            model_name='revision',
            name='all_datasets_read',
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.AlterField(
            model_name='revision',
            name='all_datasets_write',
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.AlterField(
            model_name='revision',
            name='allowed_domains',
            field=models.JSONField(db_default=[], default=list),
        ),
        migrations.AlterField(
            model_name='revision',
            name='core_data_access',
            field=models.BooleanField(db_default=True, default=True),
        ),
        migrations.AlterField(
            model_name='revision',
            name='domains_report_only',
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.AlterField(
            model_name='revision',
            name='is_past',
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.AlterField(
            model_name='revision',
            name='premium_data_access',
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.AlterField(
            model_name='revision',
            name='signed_requests',
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.AlterField(
            model_name='revision',
            name='withdrawal',
            field=models.CharField(blank=True, choices=[('superseded', 'Superseded'), ('undone', 'Undone')], db_default='', default='', max_length=10),
        ),
        migrations.AlterField(
            model_name='secret',
            name='created_at',
            field=models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), default=django.utils.timezone.now),
        ),
        migrations.AlterField(
            model_name='secret',
            name='is_imported',
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.AlterField(
            model_name='signingsecret',
            name='created_at',
            field=models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), default=django.utils.timezone.now),
        ),
        migrations.AlterField(
            model_name='token',
            name='changed_xid',
            field=models.BigIntegerField(db_default=0, db_index=True, default=0, editable=False),
        ),
        migrations.AlterField(
            model_name='token',
            name='created_at',
            field=models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), default=django.utils.timezone.now),
        ),
        migrations.AlterField(
            model_name='token',
            name='nickname',
            field=models.CharField(blank=True, db_default='', default='', max_length=60),
        ),
        migrations.AlterField(
            model_name='tokenrefusal',
            name='dataset_id',
            field=models.BigIntegerField(db_default=0, default=0),
        ),
        migrations.AlterField(
            model_name='tokenrefusal',
            name='site',
            field=models.CharField(blank=True, db_default='', default='', max_length=260),
        ),
        migrations.AlterField(
            model_name='usagecounter',
            name='calls',
            field=models.BigIntegerField(db_default=0, default=0),
        ),
        migrations.AlterField(
            model_name='usagecounter',
            name='core_credits',
            field=models.BigIntegerField(db_default=0, default=0),
        ),
        migrations.AlterField(
            model_name='usagecounter',
            name='credits',
            field=models.BigIntegerField(db_default=0, default=0),
        ),
        migrations.AlterField(
            model_name='usagecounter',
            name='dataset_id',
            field=models.BigIntegerField(db_default=0, default=0),
        ),
        migrations.AlterField(
            model_name='usagecounter',
            name='is_demo',
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.AlterField(
            model_name='usagecounter',
            name='records',
            field=models.BigIntegerField(db_default=0, default=0),
        ),
        migrations.AlterField(
            model_name='usageflush',
            name='flushed_at',
            field=models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), db_index=True, default=django.utils.timezone.now),
        ),
        migrations.AlterField(
            model_name='webhook',
            name='fault',
            field=models.CharField(blank=True, db_default='', default='', max_length=200),
        ),
    ]
