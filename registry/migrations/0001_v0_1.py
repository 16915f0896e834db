"""The tables of 0.1 at once, for a new hub: one by one, the migrations that this replaces took most of
its first start. A hub that has some of those continues with the others."""

import django.db.models.deletion
import django.db.models.functions.comparison
import django.db.models.functions.text
import django.utils.timezone
import registry.names
from django.db import migrations, models


class Migration(migrations.Migration):

    replaces = [("registry", "0001_initial"), ("registry", "0002_lifecycle"), ("registry", "0003_scale"), ("registry", "0004_conversion"), ("registry", "0005_archived_with_model"), ("registry", "0006_dataset_tasks"), ("registry", "0007_paging"), ("registry", "0008_admin_search"), ("registry", "0009_proof"), ("registry", "0010_bundle_imports"), ("registry", "0011_work"), ("registry", "0012_plain_words")]

    initial = True

    dependencies = [
    ]

    operations = [
        migrations.CreateModel(
            name='BaseModel',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=100, validators=[registry.names.validate_name])),
                ('source', models.CharField(choices=[('hub', 'Model hub id'), ('folder', 'Local folder'), ('gguf', 'GGUF file'), ('starter', 'Bundled starter'), ('quantized', 'Quantized from another base'), ('fused', 'Fused from a version')], max_length=10)),
                ('origin', models.CharField(blank=True, help_text='Hub id, path or package it was imported from', max_length=500)),
                ('revision', models.CharField(blank=True, max_length=100)),
                ('path', models.CharField(editable=False, help_text='Below storage', max_length=500)),
                ('manifest_sha256', models.CharField(editable=False, max_length=64)),
                ('size_bytes', models.BigIntegerField(editable=False)),
                ('quantization', models.CharField(blank=True, max_length=50)),
                ('architecture', models.CharField(blank=True, max_length=50)),
                ('parameters', models.BigIntegerField(default=0)),
                ('context_length', models.PositiveIntegerField(default=0)),
                ('certificate', models.JSONField(default=dict, editable=False, help_text='How closely it matches the model it was made from')),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('derived_from', models.ForeignKey(editable=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='derived', to='registry.basemodel')),
            ],
            options={
                'ordering': ('name',),
                'constraints': [models.UniqueConstraint(django.db.models.functions.text.Lower('name'), name='basemodel_name_unique'), models.CheckConstraint(condition=models.Q(('name__regex', '^[A-Za-z0-9][A-Za-z0-9._-]{0,99}\\Z')), name='basemodel_name_valid'), models.CheckConstraint(condition=models.Q(('source__in', ['hub', 'folder', 'gguf', 'starter', 'quantized', 'fused'])), name='basemodel_source_valid'), models.CheckConstraint(condition=models.Q(('manifest_sha256__regex', '^[0-9a-f]{64}\\Z')), name='basemodel_sha256_valid')],
            },
        ),
        migrations.CreateModel(
            name='Dataset',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=100, validators=[registry.names.validate_name])),
                ('revision', models.PositiveIntegerField(default=1, editable=False)),
                ('changes', models.JSONField(default=dict, editable=False, help_text='Examples added and removed since the previous one')),
                ('description', models.TextField(blank=True)),
                ('source', models.CharField(blank=True, help_text='Where it was read from', max_length=500)),
                ('path', models.CharField(editable=False, help_text='Snapshot, below storage', max_length=500)),
                ('checksum', models.CharField(editable=False, help_text='sha256 of the manifest', max_length=64)),
                ('format', models.CharField(choices=[('chat', 'Chat messages'), ('completions', 'Prompt and completion'), ('text', 'Plain text'), ('tools', 'Chat with tool calls'), ('preference', 'Chosen and rejected answers')], max_length=20)),
                ('schema', models.JSONField(default=dict, editable=False)),
                ('splits', models.JSONField(default=dict, editable=False, help_text='{"train": 400, …}')),
                ('token_stats', models.JSONField(default=dict, editable=False)),
                ('size_bytes', models.BigIntegerField(default=0, editable=False)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('previous', models.OneToOneField(editable=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='next', to='registry.dataset')),
            ],
            options={
                'ordering': ('-created_at', '-pk'),
                'indexes': [models.Index(fields=['checksum'], name='registry_da_checksu_e30eac_idx'), models.Index(fields=['-created_at', '-id'], name='dataset_newest')],
                'constraints': [models.UniqueConstraint(django.db.models.functions.text.Lower('name'), models.F('revision'), name='dataset_revision_unique'), models.CheckConstraint(condition=models.Q(('name__regex', '^[A-Za-z0-9][A-Za-z0-9._-]{0,99}\\Z')), name='dataset_name_valid'), models.CheckConstraint(condition=models.Q(('format__in', ['chat', 'completions', 'text', 'tools', 'preference'])), name='dataset_format_valid'), models.CheckConstraint(condition=models.Q(('checksum__regex', '^[0-9a-f]{64}\\Z')), name='dataset_checksum_valid')],
            },
        ),
        migrations.CreateModel(
            name='DatasetReport',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('max_seq_length', models.PositiveIntegerField()),
                ('report', models.JSONField(default=dict)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('base_model', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='registry.basemodel')),
                ('dataset', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='reports', to='registry.dataset')),
            ],
            options={
                'ordering': ('-created_at',),
                'constraints': [models.UniqueConstraint(fields=('dataset', 'base_model', 'max_seq_length'), name='datasetreport_unique')],
            },
        ),
        migrations.CreateModel(
            name='DatasetTask',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('status', models.CharField(choices=[('running', 'Running'), ('completed', 'Completed'), ('failed', 'Failed')], default='running', max_length=10)),
                ('stage', models.CharField(blank=True, max_length=100)),
                ('share', models.FloatField(default=0.0, help_text='Of the stage that is done, 0 to 1')),
                ('error_message', models.TextField(blank=True)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('heartbeat_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('kind', models.CharField(choices=[('register', 'Registration'), ('examine', 'Examination')], max_length=10)),
                ('name', models.CharField(max_length=100, validators=[registry.names.validate_name])),
                ('source', models.CharField(help_text='What was sent, or the hub id', max_length=500)),
                ('options', models.JSONField(default=dict, help_text='Options of the task')),
                ('examples', models.BigIntegerField(default=0, help_text='Read so far')),
                ('problems', models.JSONField(default=list, help_text='The first errors in examples')),
                ('dataset', models.ForeignKey(editable=False, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='tasks', to='registry.dataset')),
                ('report', models.ForeignKey(editable=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='registry.datasetreport')),
            ],
            options={
                'ordering': ('-created_at', '-pk'),
                'constraints': [models.CheckConstraint(condition=models.Q(('status__in', ['running', 'completed', 'failed'])), name='datasettask_status_valid'), models.CheckConstraint(condition=models.Q(('kind__in', ['register', 'examine'])), name='datasettask_kind_valid'), models.UniqueConstraint(models.F('kind'), django.db.models.functions.text.Lower('name'), condition=models.Q(('status', 'running')), name='datasettask_one_running')],
            },
        ),
        migrations.CreateModel(
            name='MLflowOutbox',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('operation', models.CharField(max_length=40)),
                ('run_key', models.CharField(blank=True, help_text='Entries of one run are delivered in order', max_length=100)),
                ('run_id', models.CharField(blank=True, help_text="MLflow's, once it is known", max_length=64)),
                ('payload', models.JSONField(default=dict)),
                ('attempts', models.PositiveIntegerField(default=0)),
                ('last_error', models.TextField(blank=True)),
                ('not_before', models.DateTimeField(default=django.utils.timezone.now)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('done_at', models.DateTimeField(null=True)),
            ],
            options={
                'verbose_name': 'MLflow outbox entry',
                'verbose_name_plural': 'MLflow outbox',
                'ordering': ('pk',),
                'indexes': [models.Index(condition=models.Q(('done_at__isnull', True)), fields=['id'], name='outbox_waiting'), models.Index(fields=['run_key', 'id'], name='outbox_run')],
            },
        ),
        migrations.CreateModel(
            name='Model',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=100, validators=[registry.names.validate_name])),
                ('task_type', models.CharField(choices=[('chat', 'Chat'), ('extraction', 'Structured extraction'), ('classification', 'Classification'), ('summarization', 'Summarization'), ('code', 'Code'), ('other', 'Other')], default='chat', max_length=20)),
                ('description', models.TextField(blank=True)),
                ('mlflow_experiment_id', models.CharField(blank=True, editable=False, max_length=64)),
                ('tags', models.JSONField(blank=True, default=list)),
                ('card_notes', models.TextField(blank=True, help_text='Your own text in the model card, in Markdown')),
                ('archived_at', models.DateTimeField(editable=False, null=True)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('base_model', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='models', to='registry.basemodel')),
            ],
            options={
                'ordering': ('-created_at', '-pk'),
                'indexes': [models.Index(fields=['-created_at', '-id'], name='model_newest')],
                'constraints': [models.UniqueConstraint(django.db.models.functions.text.Lower('name'), name='model_name_unique'), models.CheckConstraint(condition=models.Q(('name__regex', '^[A-Za-z0-9][A-Za-z0-9._-]{0,99}\\Z')), name='model_name_valid'), models.CheckConstraint(condition=models.Q(('task_type__in', ['chat', 'extraction', 'classification', 'summarization', 'code', 'other'])), name='model_task_type_valid')],
            },
        ),
        migrations.CreateModel(
            name='ModelVersion',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('version', models.CharField(max_length=20, validators=[registry.names.validate_semver])),
                ('major', models.PositiveIntegerField(editable=False)),
                ('minor', models.PositiveIntegerField(editable=False)),
                ('patch', models.PositiveIntegerField(editable=False)),
                ('status', models.CharField(choices=[('training', 'Training'), ('ready', 'Ready'), ('archived', 'Archived'), ('failed', 'Failed')], default='training', max_length=10)),
                ('metrics', models.JSONField(default=dict, editable=False)),
                ('artifact_path', models.CharField(blank=True, editable=False, max_length=500)),
                ('manifest_sha256', models.CharField(blank=True, editable=False, max_length=64)),
                ('size_bytes', models.BigIntegerField(default=0, editable=False)),
                ('mlflow_run_id', models.CharField(blank=True, editable=False, max_length=64)),
                ('mlflow_version', models.CharField(blank=True, editable=False, max_length=20)),
                ('moving_to', models.CharField(blank=True, editable=False, help_text='Where the files are being moved to; empty when they are not', max_length=500)),
                ('archived_with_model', models.BooleanField(default=False, editable=False, help_text='Archived with its model, and restored with it')),
                ('notes', models.TextField(blank=True)),
                ('evaluation', models.JSONField(default=dict, editable=False, help_text='Scores of its answers, with samples')),
                ('reproduction', models.JSONField(default=dict, editable=False, help_text='Whether training again gave the same weights')),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('git_commit', models.CharField(blank=True, editable=False, max_length=40)),
                ('git_dirty', models.BooleanField(editable=False, null=True)),
                ('git_diff', models.TextField(blank=True, editable=False, help_text='Uncommitted changes of the checkout')),
                ('dataset_checksum', models.CharField(blank=True, editable=False, max_length=64)),
                ('base_checksum', models.CharField(blank=True, editable=False, max_length=64)),
                ('params', models.JSONField(default=dict, editable=False)),
                ('seed', models.BigIntegerField(editable=False, null=True)),
                ('packages', models.JSONField(default=dict, editable=False)),
                ('hardware', models.JSONField(default=dict, editable=False)),
                ('base_model', models.ForeignKey(editable=False, on_delete=django.db.models.deletion.PROTECT, related_name='versions', to='registry.basemodel')),
                ('dataset', models.ForeignKey(editable=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='versions', to='registry.dataset')),
                ('model', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='versions', to='registry.model')),
                ('parent', models.ForeignKey(editable=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='children', to='registry.modelversion')),
            ],
            options={
                'ordering': ('-major', '-minor', '-patch'),
                'indexes': [models.Index(models.F('model'), models.F('status'), models.OrderBy(models.F('major'), descending=True), models.OrderBy(models.F('minor'), descending=True), models.OrderBy(models.F('patch'), descending=True), name='version_newest'), models.Index(models.F('model'), models.OrderBy(models.F('major'), descending=True), models.OrderBy(models.F('minor'), descending=True), models.OrderBy(models.F('patch'), descending=True), models.F('id'), name='version_order'), models.Index(fields=['model', '-created_at'], name='version_made'), models.Index(fields=['model', 'status', 'size_bytes'], name='version_disk'), models.Index(fields=['-created_at', '-id'], name='version_latest'), models.Index(fields=['git_commit'], name='version_commit'), models.Index(fields=['mlflow_run_id'], name='version_run')],
                'constraints': [models.UniqueConstraint(fields=('model', 'version'), name='version_unique'), models.CheckConstraint(condition=models.Q(('status__in', ['training', 'ready', 'archived', 'failed'])), name='version_status_valid'), models.CheckConstraint(condition=models.Q(('version', django.db.models.functions.text.Concat(django.db.models.functions.comparison.Cast('major', models.CharField()), models.Value('.'), django.db.models.functions.comparison.Cast('minor', models.CharField()), models.Value('.'), django.db.models.functions.comparison.Cast('patch', models.CharField())))), name='version_is_semver'), models.CheckConstraint(condition=models.Q(models.Q(('status__in', ['ready', 'archived']), _negated=True), models.Q(('manifest_sha256__regex', '^[0-9a-f]{64}\\Z'), models.Q(('artifact_path', ''), _negated=True)), _connector='OR'), name='version_ready_has_files')],
            },
        ),
        migrations.CreateModel(
            name='ExportTask',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('status', models.CharField(choices=[('running', 'Running'), ('completed', 'Completed'), ('failed', 'Failed')], default='running', max_length=10)),
                ('stage', models.CharField(blank=True, max_length=100)),
                ('share', models.FloatField(default=0.0, help_text='Of the stage that is done, 0 to 1')),
                ('error_message', models.TextField(blank=True)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('heartbeat_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('form', models.CharField(choices=[('adapter', 'Adapter'), ('fused', 'Fused model'), ('gguf', 'GGUF file')], max_length=10)),
                ('version', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='exports', to='registry.modelversion')),
            ],
            options={
                'ordering': ('-created_at', '-pk'),
                'constraints': [models.CheckConstraint(condition=models.Q(('status__in', ['running', 'completed', 'failed'])), name='exporttask_status_valid'), models.CheckConstraint(condition=models.Q(('form__in', ['adapter', 'fused', 'gguf'])), name='exporttask_form_valid'), models.UniqueConstraint(fields=('version', 'form'), name='exporttask_unique')],
            },
        ),
        migrations.CreateModel(
            name='BundleImport',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('status', models.CharField(choices=[('running', 'Running'), ('completed', 'Completed'), ('failed', 'Failed')], default='running', max_length=10)),
                ('stage', models.CharField(blank=True, max_length=100)),
                ('share', models.FloatField(default=0.0, help_text='Of the stage that is done, 0 to 1')),
                ('error_message', models.TextField(blank=True)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('heartbeat_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('name', models.CharField(help_text='The model it is for, @ and its own version', max_length=121)),
                ('source', models.CharField(help_text='The file that was sent', max_length=500)),
                ('options', models.JSONField(default=dict, help_text='Upload, model, base and chosen number')),
                ('version', models.ForeignKey(editable=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='registry.modelversion')),
            ],
            options={
                'ordering': ('-created_at', '-pk'),
                'constraints': [models.CheckConstraint(condition=models.Q(('status__in', ['running', 'completed', 'failed'])), name='bundleimport_status_valid'), models.UniqueConstraint(django.db.models.functions.text.Lower('name'), condition=models.Q(('status', 'running')), name='bundleimport_one_running')],
            },
        ),
        migrations.AddField(
            model_name='basemodel',
            name='fused_version',
            field=models.ForeignKey(editable=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='fused', to='registry.modelversion'),
        ),
        migrations.CreateModel(
            name='BaseImport',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('status', models.CharField(choices=[('running', 'Running'), ('completed', 'Completed'), ('failed', 'Failed')], default='running', max_length=10)),
                ('stage', models.CharField(blank=True, max_length=100)),
                ('share', models.FloatField(default=0.0, help_text='Of the stage that is done, 0 to 1')),
                ('error_message', models.TextField(blank=True)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('heartbeat_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('name', models.CharField(max_length=100, validators=[registry.names.validate_name])),
                ('source', models.CharField(choices=[('hub', 'Model hub id'), ('folder', 'Local folder'), ('gguf', 'GGUF file'), ('starter', 'Bundled starter'), ('quantized', 'Quantized from another base'), ('fused', 'Fused from a version')], max_length=10)),
                ('origin', models.CharField(max_length=500)),
                ('revision', models.CharField(blank=True, max_length=100)),
                ('done_bytes', models.BigIntegerField(default=0)),
                ('total_bytes', models.BigIntegerField(null=True)),
                ('options', models.JSONField(default=dict, help_text='Bits, group size and data set to compare on')),
                ('base_model', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='imports', to='registry.basemodel')),
                ('derived_from', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='conversions', to='registry.basemodel')),
                ('fused_version', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='conversions', to='registry.modelversion')),
            ],
            options={
                'ordering': ('-created_at',),
                'constraints': [models.CheckConstraint(condition=models.Q(('status__in', ['running', 'completed', 'failed'])), name='baseimport_status_valid'), models.UniqueConstraint(django.db.models.functions.text.Lower('name'), condition=models.Q(('status', 'running')), name='baseimport_one_running')],
            },
        ),
        migrations.CreateModel(
            name='AliasMove',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=50)),
                ('by', models.CharField(blank=True, max_length=150)),
                ('reason', models.TextField(blank=True)),
                ('gate', models.JSONField(default=list, help_text='The result of each promotion rule')),
                ('forced', models.BooleanField(default=False, help_text='Moved against a promotion rule')),
                ('moved_at', models.DateTimeField(auto_now_add=True)),
                ('model', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='alias_moves', to='registry.model')),
                ('from_version', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='registry.modelversion')),
                ('to_version', models.ForeignKey(help_text='Empty: the alias was deleted', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='registry.modelversion')),
            ],
            options={
                'ordering': ('-moved_at', '-pk'),
                'indexes': [models.Index(fields=['model', 'name', '-moved_at'], name='registry_al_model_i_b690a3_idx')],
            },
        ),
        migrations.CreateModel(
            name='Alias',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=50, validators=[registry.names.validate_alias])),
                ('updated_at', models.DateTimeField(auto_now=True)),
                ('model', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='aliases', to='registry.model')),
                ('version', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='aliases', to='registry.modelversion')),
            ],
            options={
                'verbose_name_plural': 'aliases',
                'ordering': ('name',),
                'indexes': [models.Index(fields=['name', '-updated_at', '-id'], name='alias_latest')],
                'constraints': [models.UniqueConstraint(fields=('model', 'name'), name='alias_unique'), models.CheckConstraint(condition=models.Q(('name__regex', '^[a-z][a-z0-9_-]{0,49}\\Z')), name='alias_name_valid')],
            },
        ),
        migrations.CreateModel(
            name='PromotionRule',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('alias', models.CharField(default='production', max_length=50, validators=[registry.names.validate_alias])),
                ('metric', models.CharField(max_length=100)),
                ('comparison', models.CharField(choices=[('>=', 'at least'), ('<=', 'at most')], max_length=2)),
                ('value', models.FloatField(blank=True, help_text="Empty: the value of the alias's current version", null=True)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('model', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='promotion_rules', to='registry.model')),
            ],
            options={
                'ordering': ('alias', 'metric', 'pk'),
                'constraints': [models.UniqueConstraint(fields=('model', 'alias', 'metric', 'comparison', 'value'), name='promotionrule_unique'), models.UniqueConstraint(condition=models.Q(('value__isnull', True)), fields=('model', 'alias', 'metric', 'comparison'), name='promotionrule_relative_unique'), models.CheckConstraint(condition=models.Q(('comparison__in', ['>=', '<='])), name='promotionrule_comparison_valid'), models.CheckConstraint(condition=models.Q(('alias__regex', '^[a-z][a-z0-9_-]{0,49}\\Z')), name='promotionrule_alias_valid')],
            },
        ),
    ]
