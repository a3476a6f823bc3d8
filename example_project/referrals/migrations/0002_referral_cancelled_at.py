from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("referrals", "0001_initial")]

    operations = [migrations.AddField("Referral", "cancelled_at", models.DateTimeField(null=True))]
