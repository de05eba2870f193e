from django.apps import AppConfig


class ApperateConfig(AppConfig):
    name = "apperate"

    def ready(self) -> None:
        from apperate.observability import faults
        from tokens.rules.token_format import mask_in_text

        faults.begin(mask_in_text)
