from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "apperate.accounts"
    label = "accounts"

    def ready(self) -> None:
        from apperate.accounts import person_events  # It needs the models.

        person_events.connect()
