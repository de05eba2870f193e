from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "apperate.accounts"
    label = "accounts"

    def ready(self) -> None:
        from apperate.accounts.audit import person_events
        from apperate.accounts.sign_in import session_limits  # They need the models.

        person_events.connect()
        session_limits.connect()
