"""Widgets of the token form: dataset permissions as a table of checkboxes, domains one per line."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django import forms

from tokens.rules.permissions import Action

EVERY = "*"  # Stands for all datasets; no dataset can have this name.
EVERY_LABEL = "All datasets, including future ones"
SHOWN_MAX = 100


@dataclass(frozen=True, slots=True)
class Box:
    """One checkbox of the picker, and the chip that mirrors it."""

    dataset: str
    action: Action
    checked: bool

    @property
    def id(self) -> str:
        return f"perm-{'all' if self.dataset == EVERY else self.dataset.lower()}-{self.action}"

    @property
    def value(self) -> str:
        return f"{self.dataset}:{self.action}"

    @property
    def label(self) -> str:
        return EVERY_LABEL if self.dataset == EVERY else self.dataset


@dataclass(frozen=True, slots=True)
class BoxRow:
    """One dataset of the picker with its three checkboxes."""

    dataset: str
    boxes: tuple[Box, ...]

    @property
    def label(self) -> str:
        return EVERY_LABEL if self.dataset == EVERY else self.dataset

    @property
    def is_every(self) -> bool:
        return self.dataset == EVERY


def box_rows(names: Iterable[str], checked: Iterable[str]) -> list[BoxRow]:
    """The picker's rows: all datasets first, then each dataset by name, including granted ones."""
    chosen = set(checked)
    granted = {value.partition(":")[0] for value in chosen}
    ordered = [EVERY, *sorted({*names, *granted} - {EVERY, ""})]
    return [
        BoxRow(name, tuple(Box(name, action, f"{name}:{action}" in chosen) for action in Action))
        for name in ordered
    ]


class PermissionPicker(forms.CheckboxSelectMultiple):
    """A table of checkboxes `NAME:action` in a popover, with a chip for each checked one.

    `names` are the datasets offered (at most SHOWN_MAX of `total`); `search_url` finds the others.
    """

    template_name = "tokens/widgets/permission_picker.html"
    names: Sequence[str] = ()
    total = 0
    search_url = ""

    def get_context(self, name: str, value: Any, attrs: dict[str, Any] | None) -> dict[str, Any]:
        rows = box_rows(self.names, value or ())
        disabled = bool(attrs and attrs.get("disabled"))
        return {
            "widget": {
                "name": name,
                "rows": rows,
                "chosen": [box for row in rows for box in row.boxes if box.checked],
                "disabled": disabled,
                "total": self.total,
                "is_partial": self.total > len(self.names),
                "search_url": self.search_url,
                "attrs": attrs or {},
            }
        }

    def id_for_label(self, id_: str, index: str | None = None) -> str:
        return ""  # The group has a legend; no single control carries its label.


class DomainList(forms.Textarea):
    """Domain rules, one per line, in a monospaced font."""

    def __init__(self) -> None:
        super().__init__(
            attrs={
                "class": "input mono",
                "rows": 3,
                "spellcheck": "false",
                "autocapitalize": "off",
                "autocomplete": "off",
                "placeholder": "www.example.com",
            }
        )
