"""A base model may be one that makes vectors and does nothing else."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('registry', '0015_version_labels'),
    ]

    operations = [
        migrations.AddField(
            model_name='basemodel',
            name='pooling',
            field=models.CharField(blank=True, help_text='How an embedding model makes vectors: mean, cls or last. Empty for a model that writes', max_length=10),
        ),
    ]
