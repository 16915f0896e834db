import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('inference', '0012_slowest_requests'),
        ('registry', '0017_audit_log'),
    ]

    operations = [
        migrations.AddField(
            model_name='inferencerequest',
            name='error_code',
            field=models.CharField(help_text='As the APIs report it', max_length=64, null=True),
        ),
        migrations.AddField(
            model_name='inferencerequest',
            name='load_ms',
            field=models.FloatField(help_text="Of the queue's: loading the model for it", null=True),
        ),
        migrations.AddField(
            model_name='conversation',
            name='tools',
            field=models.JSONField(default=list, editable=False),
        ),
        # System prompts become presets, which have sampling and tools, too.
        migrations.RenameModel('SystemPrompt', 'Preset'),
        migrations.RenameField('preset', 'text', 'system'),
        migrations.AlterField(
            model_name='preset', name='system', field=models.TextField(blank=True)
        ),
        migrations.AlterField(
            model_name='preset', name='name', field=models.CharField(max_length=100)
        ),
        migrations.AddField(
            model_name='preset',
            name='model',
            field=models.CharField(blank=True, default='', help_text='Empty: for all models', max_length=200),
            preserve_default=False,
        ),
        migrations.AddField(
            model_name='preset', name='sampling', field=models.JSONField(blank=True, default=dict)
        ),
        migrations.AddField(
            model_name='preset', name='tools', field=models.JSONField(blank=True, default=list)
        ),
        migrations.AlterModelOptions(name='preset', options={'ordering': ('name', 'model')}),
        migrations.AddConstraint(
            model_name='preset',
            constraint=models.UniqueConstraint(fields=('name', 'model'), name='preset_name_unique'),
        ),
        migrations.CreateModel(
            name='Feedback',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('request_id', models.CharField(help_text='In the request log', max_length=64, unique=True)),
                ('answered_by', models.CharField(blank=True, max_length=250)),
                ('rating', models.CharField(blank=True, choices=[('good', 'Good'), ('bad', 'Bad')], max_length=4)),
                ('ideal', models.TextField(blank=True, help_text='What the answer should have been')),
                ('prompt', models.JSONField(null=True)),
                ('answer', models.TextField(blank=True)),
                ('thoughts', models.TextField(blank=True)),
                ('tools', models.JSONField(blank=True, default=list)),
                ('tool_calls', models.JSONField(blank=True, default=list)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('updated_at', models.DateTimeField(auto_now=True)),
                ('version', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='feedback', to='registry.modelversion')),
            ],
            options={
                'verbose_name_plural': 'feedback',
                'ordering': ('-pk',),
            },
        ),
        migrations.AddConstraint(
            model_name='feedback',
            constraint=models.CheckConstraint(condition=models.Q(('rating__in', ['', 'good', 'bad'])), name='feedback_rating_valid'),
        ),
    ]
