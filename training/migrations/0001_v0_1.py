"""The tables of 0.1 at once, for a new hub: one by one, the migrations that this replaces took most of
its first start. A hub that has some of those continues with the others."""

import django.db.models.deletion
import django.utils.timezone
import registry.names
from django.db import migrations, models


class Migration(migrations.Migration):

    replaces = [("training", "0001_initial"), ("training", "0002_scale"), ("training", "0003_paging"), ("training", "0004_correlation"), ("training", "0005_queue"), ("training", "0006_proof"), ("training", "0007_newest_over"), ("training", "0008_version_number"), ("training", "0009_plain_words")]

    initial = True

    dependencies = [
        ('registry', '0001_v0_1'),
    ]

    operations = [
        migrations.CreateModel(
            name='Sweep',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=100)),
                ('config', models.JSONField(help_text='backends.base.TrainingConfig, before the grid changes it')),
                ('grid', models.JSONField(help_text='Values by dotted setting: {"lora.rank": [8, 16]}')),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('dataset', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='sweeps', to='registry.dataset')),
                ('model', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='sweeps', to='registry.model')),
            ],
            options={
                'ordering': ('-created_at', '-pk'),
            },
        ),
        migrations.CreateModel(
            name='TrainingJob',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('status', models.CharField(choices=[('queued', 'Queued'), ('running', 'Running'), ('completed', 'Completed'), ('failed', 'Failed'), ('cancelled', 'Cancelled')], default='queued', editable=False, max_length=10)),
                ('started_at', models.DateTimeField(editable=False, null=True)),
                ('completed_at', models.DateTimeField(editable=False, null=True)),
                ('error_message', models.TextField(blank=True, editable=False)),
                ('wait_reason', models.TextField(blank=True, editable=False)),
                ('attempt', models.PositiveIntegerField(default=0, editable=False)),
                ('crashes', models.PositiveIntegerField(default=0, editable=False, help_text='In a row, without a new checkpoint between them')),
                ('lease', models.UUIDField(editable=False, help_text='Live while the job runs', null=True)),
                ('heartbeat_at', models.DateTimeField(editable=False, null=True)),
                ('heartbeat_due_at', models.DateTimeField(editable=False, help_text='When the next heartbeat is due', null=True)),
                ('not_before', models.DateTimeField(editable=False, help_text='Back-off after a crash, or the next look for memory', null=True)),
                ('process_group', models.IntegerField(editable=False, null=True)),
                ('process_started', models.FloatField(editable=False, help_text='Start time of that process: a pid can be reused', null=True)),
                ('stage', models.CharField(blank=True, editable=False, max_length=40)),
                ('yielding', models.CharField(blank=True, editable=False, help_text='Why training is paused right now', max_length=80)),
                ('yielding_since', models.DateTimeField(editable=False, null=True)),
                ('iteration', models.PositiveIntegerField(default=0, editable=False)),
                ('iters', models.PositiveIntegerField(editable=False, help_text='Optimizer steps in total, known once the data is read', null=True)),
                ('checkpoint_iteration', models.PositiveIntegerField(default=0, editable=False, help_text='Where the job continues after an interruption')),
                ('yielded_s', models.FloatField(default=0.0, editable=False, help_text='Total seconds paused for others')),
                ('tokens_per_second', models.FloatField(editable=False, null=True)),
                ('peak_memory_bytes', models.BigIntegerField(editable=False, null=True)),
                ('memory_estimate_bytes', models.BigIntegerField(editable=False, help_text='Expected peak, corrected by earlier runs', null=True)),
                ('memory_parts', models.JSONField(default=dict, editable=False, help_text='Bytes of each part, before the correction')),
                ('memory_family', models.CharField(blank=True, editable=False, help_text="Runs whose measurements correct each other's estimates", max_length=100)),
                ('config', models.JSONField(help_text='backends.base.TrainingConfig')),
                ('priority', models.IntegerField(default=0, help_text='Higher runs first')),
                ('position', models.BigIntegerField(default=0, editable=False, help_text='Among jobs of the same priority; lower runs first')),
                ('varied', models.JSONField(default=dict, editable=False, help_text='Settings that differ within its sweep, by dotted name')),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('cancel_requested', models.BooleanField(default=False, editable=False)),
                ('paused', models.BooleanField(default=False, editable=False, help_text='A paused job is not started; a running one returns to the queue at its next step')),
                ('out_of_memory', models.BooleanField(default=False, editable=False, help_text='The last attempt ran out of memory')),
                ('batch_size_before', models.PositiveIntegerField(editable=False, help_text='Before it was halved because memory ran out', null=True)),
                ('correlation_id', models.CharField(blank=True, editable=False, max_length=64)),
                ('version_number', models.CharField(blank=True, editable=False, help_text='Number chosen for the version; empty uses the proposed one', max_length=20, validators=[registry.names.validate_semver])),
                ('cloned_from', models.ForeignKey(editable=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='clones', to='training.trainingjob')),
                ('dataset', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='jobs', to='registry.dataset')),
                ('model', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='jobs', to='registry.model')),
                ('reproduces', models.ForeignKey(editable=False, help_text='The version to train again; the job makes no new one', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='reproductions', to='registry.modelversion')),
                ('result_version', models.OneToOneField(editable=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='job', to='registry.modelversion')),
                ('sweep', models.ForeignKey(editable=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='jobs', to='training.sweep')),
            ],
            options={
                'ordering': ('-created_at', '-pk'),
                'indexes': [models.Index(fields=['status', '-priority', 'position'], name='job_order'), models.Index(fields=['-created_at', '-id', 'status'], name='job_newest'), models.Index(fields=['memory_family', '-completed_at'], name='job_family'), models.Index(fields=['status', '-created_at', '-id'], name='job_newest_of_status'), models.Index(fields=['model', '-created_at', '-id'], name='job_newest_of_model'), models.Index(fields=['correlation_id'], name='job_correlation')],
                'constraints': [models.CheckConstraint(condition=models.Q(('status__in', ['queued', 'running', 'completed', 'failed', 'cancelled'])), name='job_status_valid'), models.UniqueConstraint(condition=models.Q(('status', 'running')), fields=('status',), name='job_one_running'), models.CheckConstraint(condition=models.Q(models.Q(('status', 'running'), _negated=True), ('lease__isnull', False), _connector='OR'), name='job_running_has_lease'), models.CheckConstraint(condition=models.Q(('version_number', ''), ('version_number__regex', '^(0|[1-9][0-9]{0,5})\\.(0|[1-9][0-9]{0,5})\\.(0|[1-9][0-9]{0,5})\\Z'), _connector='OR'), name='job_version_number_valid')],
            },
        ),
        migrations.CreateModel(
            name='TrainingMetric',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('iteration', models.PositiveIntegerField()),
                ('train_loss', models.FloatField(null=True)),
                ('val_loss', models.FloatField(null=True)),
                ('learning_rate', models.FloatField(null=True)),
                ('grad_norm', models.FloatField(null=True)),
                ('tokens_per_second', models.FloatField(null=True)),
                ('peak_memory_bytes', models.BigIntegerField(null=True)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False, help_text='When it was measured; rows come in batches')),
                ('job', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='metrics', to='training.trainingjob')),
            ],
            options={
                'ordering': ('iteration',),
                'constraints': [models.UniqueConstraint(fields=('job', 'iteration'), name='metric_unique')],
            },
        ),
        migrations.CreateModel(
            name='TrainingSample',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('iteration', models.PositiveIntegerField()),
                ('line', models.PositiveIntegerField(help_text='Of valid.jsonl, from 1')),
                ('prompt', models.TextField()),
                ('expected', models.TextField(blank=True)),
                ('answer', models.TextField(blank=True)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('job', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='samples', to='training.trainingjob')),
            ],
            options={
                'ordering': ('iteration', 'line'),
                'constraints': [models.UniqueConstraint(fields=('job', 'iteration', 'line'), name='sample_unique')],
            },
        ),
    ]
