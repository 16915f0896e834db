from django.db import migrations, models


def mark(apps, schema_editor):
    """Until now a restored model took all of its archived versions back; those keep that."""
    versions = apps.get_model("registry", "ModelVersion").objects
    archived = versions.filter(status="archived", model__archived_at__isnull=False)
    archived.update(archived_with_model=True)


class Migration(migrations.Migration):

    dependencies = [
        ('registry', '0004_conversion'),
    ]

    operations = [
        migrations.AddField(
            model_name='modelversion',
            name='archived_with_model',
            field=models.BooleanField(default=False, editable=False, help_text='It went to the archive because its model did, and comes back with it'),
        ),
        migrations.RunPython(mark, migrations.RunPython.noop),
    ]
