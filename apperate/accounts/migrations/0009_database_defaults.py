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
        ('accounts', '0008_audit_chain'),
    ]

    operations = [
        migrations.AlterField(
            model_name='auditevent',
            name='address',
            field=models.CharField(blank=True, db_default='', default='', max_length=64),
        ),
        migrations.AlterField(
            model_name='auditevent',
            name='at',
            field=models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), db_index=True, default=django.utils.timezone.now),
        ),
        migrations.AlterField(
            model_name='auditevent',
            name='target',
            field=models.CharField(blank=True, db_default='', default='', max_length=254),
        ),
        migrations.AlterField(
            model_name='audithead',
            name='purged',
            field=models.BigIntegerField(db_default=0, default=0),
        ),
        migrations.AlterField(
            model_name='invitation',
            name='created_at',
            field=models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), default=django.utils.timezone.now),
        ),
        migrations.AlterField(
            model_name='invitation',
            name='role',
            field=models.CharField(choices=[('primary', 'Primary'), ('admin', 'Admin'), ('user', 'User')], db_default='user', default='user', max_length=10),
        ),
        migrations.AlterField(
            model_name='keptanswer',
            name='answer',
            field=models.TextField(blank=True, db_default='', default=''),
        ),
        migrations.AlterField(
            model_name='membership',
            name='created_at',
            field=models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), default=django.utils.timezone.now),
        ),
        migrations.AlterField(
            model_name='membership',
            name='role',
            field=models.CharField(choices=[('primary', 'Primary'), ('admin', 'Admin'), ('user', 'User')], db_default='user', default='user', max_length=10),
        ),
        migrations.AlterField(
            model_name='user',
            name='date_joined',
            field=models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), default=django.utils.timezone.now),
        ),
        migrations.AlterField(
            model_name='user',
            name='is_active',
            field=models.BooleanField(db_default=True, default=True),
        ),
        migrations.AlterField(
            model_name='user',
            name='is_staff',
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.AlterField(
            model_name='user',
            name='name',
            field=models.CharField(blank=True, db_default='', default='', max_length=100),
        ),
        migrations.AlterField(
            model_name='workspace',
            name='allows_secret_in_browser',
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.AlterField(
            model_name='workspace',
            name='changed_xid',
            field=models.BigIntegerField(db_default=0, db_index=True, default=0, editable=False),
        ),
        migrations.AlterField(
            model_name='workspace',
            name='created_at',
            field=models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), default=django.utils.timezone.now),
        ),
        migrations.AlterField(
            model_name='workspace',
            name='has_premium',
            field=models.BooleanField(db_default=False, default=False, help_text='Has a Premium data subscription.'),
        ),
        migrations.AlterField(
            model_name='workspace',
            name='is_legacy',
            field=models.BooleanField(db_default=False, default=False, help_text='May sign requests on the grow and scale plans.'),
        ),
        migrations.AlterField(
            model_name='workspace',
            name='is_system',
            field=models.BooleanField(db_default=False, default=False, help_text='Filled by operators: CORE and PREMIUM.'),
        ),
        migrations.AlterField(
            model_name='workspace',
            name='pays_as_it_goes',
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.AlterField(
            model_name='workspace',
            name='plan',
            field=models.CharField(choices=[('launch', 'Launch'), ('grow', 'Grow'), ('scale', 'Scale'), ('business', 'Business')], db_default='business', default='business', max_length=20),
        ),
        migrations.AlterField(
            model_name='workspace',
            name='requires_second_factor',
            field=models.BooleanField(db_default=False, default=False, help_text='Members without a second factor see nothing but how to add one.'),
        ),
    ]
