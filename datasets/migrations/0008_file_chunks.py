"""Files of jobs in the database, for installations of several hosts."""

import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('datasets', '0007_database_defaults'),
    ]

    operations = [
        migrations.CreateModel(
            name='FileChunk',
            fields=[
                ('pk', models.CompositePrimaryKey('folder', 'name', 'number', blank=True, editable=False, primary_key=True, serialize=False)),
                ('folder', models.CharField(max_length=40)),
                ('name', models.CharField(max_length=20)),
                ('number', models.BigIntegerField()),
                ('data', models.BinaryField()),
                ('stored_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
        ),
        # Beside the table's pages, and not compressed once more.
        migrations.RunSQL(
            "ALTER TABLE datasets_filechunk ALTER COLUMN data SET STORAGE EXTERNAL", migrations.RunSQL.noop
        ),
    ]
