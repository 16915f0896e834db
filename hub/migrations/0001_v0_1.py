"""The tables of 0.1 at once, for a new hub: one by one, the migrations that this replaces took most of
its first start. A hub that has some of those continues with the others."""

from django.db import migrations, models


class Migration(migrations.Migration):

    replaces = [("hub", "0001_initial"), ("hub", "0002_storage_id")]

    initial = True

    dependencies = [
    ]

    operations = [
        migrations.CreateModel(
            name='StorageId',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('only', models.BooleanField(default=True, editable=False, unique=True)),
                ('storage_id', models.UUIDField(editable=False)),
                ('path', models.CharField(editable=False, max_length=4096)),
                ('host', models.CharField(editable=False, max_length=255)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
            ],
            options={
                'constraints': [models.CheckConstraint(condition=models.Q(('only', True)), name='storageid_only_one')],
            },
        ),
        migrations.CreateModel(
            name='SystemSample',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('cpu_percent', models.FloatField(help_text='Of all cores')),
                ('gpu_percent', models.FloatField(null=True)),
                ('memory_used_bytes', models.BigIntegerField()),
                ('memory_total_bytes', models.BigIntegerField()),
                ('swap_used_bytes', models.BigIntegerField(default=0)),
                ('disk_free_bytes', models.BigIntegerField()),
                ('engine_memory_bytes', models.BigIntegerField(null=True)),
                ('training_memory_bytes', models.BigIntegerField(null=True)),
            ],
            options={
                'ordering': ('-created_at',),
                'indexes': [models.Index(fields=['-created_at'], name='hub_systems_created_6982b7_idx')],
            },
        ),
    ]
