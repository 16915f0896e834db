from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('registry', '0018_base_catalogue'),
    ]

    operations = [
        migrations.AddField(
            model_name='baseimport',
            name='bytes_per_second',
            field=models.BigIntegerField(help_text='Of the last seconds, while it downloads', null=True),
        ),
    ]
