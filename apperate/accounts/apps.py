from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "apperate.accounts"
    label = "accounts"

    def ready(self) -> None:
        from apperate.accounts import person_events, session_limits  # They need the models.

        person_events.connect()
        session_limits.connect()
