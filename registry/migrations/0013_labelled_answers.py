"""Answers labelled good or bad (KTO) are a format of data sets."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('registry', '0012_plain_words'),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='dataset',
            name='dataset_format_valid',
        ),
        migrations.AlterField(
            model_name='dataset',
            name='format',
            field=models.CharField(choices=[('chat', 'Chat messages'), ('completions', 'Prompt and completion'), ('text', 'Plain text'), ('tools', 'Chat with tool calls'), ('preference', 'Chosen and rejected answers'), ('labelled', 'Answers labelled good or bad')], max_length=20),
        ),
        migrations.AddConstraint(
            model_name='dataset',
            constraint=models.CheckConstraint(condition=models.Q(('format__in', ['chat', 'completions', 'text', 'tools', 'preference', 'labelled'])), name='dataset_format_valid'),
        ),
    ]
