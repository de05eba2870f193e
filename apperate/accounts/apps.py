from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "apperate.accounts"
    label = "accounts"
