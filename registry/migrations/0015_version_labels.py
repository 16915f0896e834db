"""The labels that a version was trained on are part of its lineage."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('registry', '0014_workbench'),
    ]

    operations = [
        migrations.AddField(
            model_name='modelversion',
            name='labels',
            field=models.JSONField(default=list, editable=False, help_text='Those of its data set, the most frequent first'),
        ),
    ]
