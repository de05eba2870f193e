from django.apps import AppConfig


class ApperateConfig(AppConfig):
    name = "apperate"
