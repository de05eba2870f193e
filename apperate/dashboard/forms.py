"""How every form of the dashboard is drawn: one field template, and widgets with their CSS classes."""

from typing import Any

from django import forms
from django.forms.boundfield import BoundField
from django.forms.renderers import TemplatesSetting


class Field(BoundField):
    """A form field whose widget gets its default CSS class, unless it names one itself.

    allauth's forms repeat their labels as placeholders in other words; those are left out.
    """

    def build_widget_attrs(self, attrs: dict[str, Any], widget: forms.Widget | None = None) -> dict[str, Any]:
        attrs = super().build_widget_attrs(attrs, widget)
        widget = widget or self.field.widget
        if "class" not in widget.attrs and (css_class := class_of(widget)):
            attrs.setdefault("class", css_class)
        if type(self.form).__module__.startswith("allauth."):
            widget.attrs.pop("placeholder", None)
        return attrs


def class_of(widget: forms.Widget) -> str:
    """The CSS class for a widget; checkboxes and file inputs are styled by their type."""
    if isinstance(
        widget, forms.CheckboxInput | forms.RadioSelect | forms.CheckboxSelectMultiple | forms.FileInput
    ):
        return ""
    if isinstance(widget, forms.Select) and not isinstance(widget, forms.SelectMultiple):
        return "select"
    return "" if widget.is_hidden else "input"


class FormRenderer(TemplatesSetting):
    field_template_name = "ui/field.html"
    bound_field_class = Field


class Switch(forms.CheckboxInput):
    """A checkbox that shows "Enabled" or "Disabled"."""

    template_name = "ui/switch.html"

    def get_context(self, name: str, value: Any, attrs: dict[str, Any] | None) -> dict[str, Any]:
        context = super().get_context(name, value, attrs)
        context["widget"]["attrs"] |= {"role": "switch", "class": "switch"}
        return context


class Choices(forms.RadioSelect):
    """Radio buttons as cards; `help` maps a value to the sentence below its label."""

    template_name = "ui/choices.html"

    def __init__(self, *args: Any, help: dict[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.help = help or {}

    def create_option(self, name: str, value: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return super().create_option(name, value, *args, **kwargs) | {"help": self.help.get(str(value), "")}
