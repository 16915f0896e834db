"""The tables of 0.1 at once, for a new hub: one by one, the migrations that this replaces took most of
its first start. A hub that has some of those continues with the others."""

import django.core.validators
import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):

    replaces = [("inference", "0001_initial"), ("inference", "0002_scale"), ("inference", "0003_engine"), ("inference", "0004_request_search"), ("inference", "0005_playground"), ("inference", "0006_work"), ("inference", "0007_plain_words")]

    initial = True

    dependencies = [
        ('registry', '0001_v0_1'),
    ]

    operations = [
        migrations.CreateModel(
            name='SystemPrompt',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=100, unique=True)),
                ('text', models.TextField()),
                ('updated_at', models.DateTimeField(auto_now=True)),
            ],
            options={
                'ordering': ('name',),
            },
        ),
        migrations.CreateModel(
            name='ApiToken',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=100, unique=True)),
                ('prefix', models.CharField(editable=False, help_text='First characters', max_length=12)),
                ('sha256', models.CharField(editable=False, max_length=64, unique=True)),
                ('scope', models.CharField(choices=[('inference', 'Generate text'), ('manage', 'Generate, register and train'), ('admin', 'Everything, keys included')], default='inference', max_length=10)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('last_used_at', models.DateTimeField(editable=False, null=True)),
                ('revoked_at', models.DateTimeField(blank=True, null=True)),
                ('max_running', models.PositiveIntegerField(blank=True, help_text='Requests answered at once; empty: no limit', null=True, validators=[django.core.validators.MinValueValidator(1)])),
                ('max_waiting', models.PositiveIntegerField(blank=True, help_text='Requests that may wait; empty: no limit', null=True)),
                ('requests', models.PositiveBigIntegerField(default=0, editable=False)),
                ('prompt_tokens', models.PositiveBigIntegerField(default=0, editable=False)),
                ('completion_tokens', models.PositiveBigIntegerField(default=0, editable=False)),
            ],
            options={
                'verbose_name': 'API token',
                'ordering': ('name',),
                'constraints': [models.CheckConstraint(condition=models.Q(('scope__in', ['inference', 'manage', 'admin'])), name='token_scope_valid')],
            },
        ),
        migrations.CreateModel(
            name='Conversation',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('title', models.CharField(max_length=200)),
                ('system', models.TextField(blank=True)),
                ('sampling', models.JSONField(default=dict, editable=False)),
                ('columns', models.JSONField(default=list, editable=False)),
                ('revision', models.PositiveIntegerField(default=1, editable=False)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('updated_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
            ],
            options={
                'ordering': ('-updated_at', '-pk'),
                'indexes': [models.Index(fields=['-updated_at', '-id'], name='conversation_newest')],
            },
        ),
        migrations.CreateModel(
            name='InferenceRequest',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('request_id', models.CharField(max_length=64, unique=True)),
                ('correlation_id', models.CharField(blank=True, max_length=64)),
                ('api', models.CharField(choices=[('openai', 'OpenAI-compatible'), ('anthropic', 'Anthropic-compatible'), ('native', 'Native'), ('websocket', 'WebSocket')], max_length=10)),
                ('status', models.CharField(choices=[('completed', 'Completed'), ('cancelled', 'Client disconnected'), ('failed', 'Failed')], max_length=10)),
                ('requested_model', models.CharField(max_length=250)),
                ('streamed', models.BooleanField(default=False)),
                ('params', models.JSONField(default=dict)),
                ('prompt_tokens', models.PositiveIntegerField(default=0)),
                ('cached_tokens', models.PositiveIntegerField(default=0)),
                ('completion_tokens', models.PositiveIntegerField(default=0)),
                ('queue_ms', models.FloatField(null=True)),
                ('first_token_ms', models.FloatField(null=True)),
                ('total_ms', models.FloatField(null=True)),
                ('tokens_per_second', models.FloatField(null=True)),
                ('finish_reason', models.CharField(blank=True, max_length=20)),
                ('error', models.TextField(blank=True)),
                ('prompt', models.JSONField(help_text='Only with HUB_LOG_PROMPTS', null=True)),
                ('completion', models.TextField(help_text='Only with HUB_LOG_PROMPTS', null=True)),
                ('tools', models.JSONField(help_text='Only with HUB_LOG_PROMPTS', null=True)),
                ('tool_calls', models.JSONField(help_text='Only with HUB_LOG_PROMPTS', null=True)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('base_model', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='requests', to='registry.basemodel')),
                ('token', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, to='inference.apitoken')),
                ('version', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='requests', to='registry.modelversion')),
            ],
            options={
                'ordering': ('-created_at', '-pk'),
                'indexes': [models.Index(fields=['-created_at', '-id', 'requested_model'], name='request_newest'), models.Index(fields=['correlation_id'], name='request_correlation'), models.Index(condition=models.Q(('status', 'failed')), fields=['-created_at'], name='request_failed'), models.Index(fields=['version', '-created_at'], name='inference_i_version_dc202b_idx')],
                'constraints': [models.CheckConstraint(condition=models.Q(('status__in', ['completed', 'cancelled', 'failed'])), name='request_status_valid'), models.CheckConstraint(condition=models.Q(('api__in', ['openai', 'anthropic', 'native', 'websocket'])), name='request_api_valid')],
            },
        ),
        migrations.CreateModel(
            name='Replay',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('status', models.CharField(choices=[('running', 'Running'), ('completed', 'Completed'), ('failed', 'Failed')], default='running', max_length=10)),
                ('stage', models.CharField(blank=True, max_length=100)),
                ('share', models.FloatField(default=0.0, help_text='Of the stage that is done, 0 to 1')),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('heartbeat_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('since', models.DateTimeField()),
                ('until', models.DateTimeField()),
                ('total', models.PositiveIntegerField(default=0, help_text='Requests chosen')),
                ('skipped', models.PositiveIntegerField(default=0, help_text='Sampled without a seed, so answers cannot be compared')),
                ('asked', models.PositiveIntegerField(default=0, help_text='Answered so far')),
                ('agreed', models.PositiveIntegerField(default=0, help_text='With the same answer')),
                ('agreement', models.FloatField(help_text='Share of the same answers', null=True)),
                ('similarity', models.FloatField(help_text='Mean similarity of the texts', null=True)),
                ('error_message', models.TextField(blank=True, db_column='error')),
                ('source', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='replays_of', to='registry.modelversion')),
                ('target', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='replays', to='registry.modelversion')),
            ],
            options={
                'ordering': ('-created_at', '-pk'),
                'constraints': [models.CheckConstraint(condition=models.Q(('status__in', ['running', 'completed', 'failed'])), name='replay_status_valid')],
            },
        ),
        migrations.CreateModel(
            name='ReplayAnswer',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('prompt', models.JSONField()),
                ('before', models.TextField()),
                ('after', models.TextField(blank=True)),
                ('same', models.BooleanField(default=False)),
                ('similarity', models.FloatField(default=0.0)),
                ('error', models.TextField(blank=True, help_text='Why there is no answer now')),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('replay', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='answers', to='inference.replay')),
                ('request', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, to='inference.inferencerequest')),
            ],
            options={
                'ordering': ('pk',),
            },
        ),
    ]
