from django.apps import AppConfig


class TeamConfig(AppConfig):
    name = "apperate.team"
    label = "team"
