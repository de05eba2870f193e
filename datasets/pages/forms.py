"""The forms of the dataset pages. They check input; services change data."""

from collections.abc import Iterator
from typing import Any

from django import forms
from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.forms.boundfield import BoundField

from apperate.accounts.models import Workspace
from apperate.dashboard.forms import Choices
from apperate.kernel.refusals import Refusal
from datasets.jobs.uploads import Upload
from datasets.models import Dataset
from datasets.records.schema import KEY_TYPES, Property, PropertyType, Schema, dataset_id
from datasets.selectors import size_words
from datasets.services.creating import TEXT_MAX

ACCEPTED = ".csv,.tsv,.psv,.txt,.json,.jsonl,.ndjson,.parquet"
NO_FILE = "Choose a CSV, JSON, JSON Lines or Parquet file."
GENERATED, NONE, INGESTION_DAY = "Generated from the record", "None", "The day of ingestion"
DATE_CHOICES = (PropertyType.DATE, PropertyType.INTEGER)  # an integer is a year


class Dropdown(forms.Select):
    """A select with the product's arrow."""

    template_name = "datasets/select.html"


class SentFile(forms.FileField):
    """A file of at most UPLOAD_BYTES_MAX bytes."""

    def __init__(self, **kwargs: Any) -> None:
        errors = {"required": NO_FILE, "missing": NO_FILE, "invalid": NO_FILE}
        errors["empty"] = "The file is empty. It needs at least one record."
        # Preserved, so that an error elsewhere in the form does not lose the chosen file.
        widget = forms.FileInput(attrs={"accept": ACCEPTED, "hx-preserve": "true"})
        super().__init__(label="File", max_length=255, error_messages=errors, widget=widget, **kwargs)

    def clean(self, data: Any, initial: Any = None) -> Any:
        file = super().clean(data, initial)
        if isinstance(file, UploadedFile) and (file.size or 0) > settings.UPLOAD_BYTES_MAX:
            raise forms.ValidationError(
                f"The file has {size_words(file.size or 0)}; at most {size_words(settings.UPLOAD_BYTES_MAX)} "
                "can be uploaded at once. Split it into smaller files."
            )
        return file


class NamedForm(forms.Form):
    """A dataset's id that is free in the workspace."""

    name = forms.CharField(
        label="Dataset ID",
        max_length=63,
        help_text="Letters, digits and underscores. It becomes part of the URL.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false", "class": "input mono"}),
        error_messages={
            "required": "Write an id: letters, digits and underscores.",
            "max_length": "Use at most 63 letters, digits or underscores.",
            "null_characters_not_allowed": "Use 1 to 63 letters, digits or underscores.",
        },
    )

    def __init__(self, *args: Any, workspace: Workspace, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.workspace = workspace

    def clean_name(self) -> str:
        name = dataset_id(self.cleaned_data["name"])
        if isinstance(name, Refusal):
            raise forms.ValidationError(
                "Use 1 to 63 letters, digits or underscores, not beginning with _system."
            )
        present = self.workspace.datasets.filter(name=name).first()
        if present is not None and present.deleted_at:
            raise forms.ValidationError(
                f"{name} was deleted less than a day ago and can still be restored. Choose another id."
            )
        if present is not None:
            raise forms.ValidationError(
                f"{name} exists already. Choose another id, or add the file to it on its page."
            )
        return name


class UploadForm(NamedForm):
    """A new dataset's id and its file."""

    file = SentFile()


class DefineForm(NamedForm):
    """A new dataset without a file; its properties are rows beside the form."""

    title = forms.CharField(
        label="Title", max_length=200, required=False, help_text="What people read in lists. May be blank."
    )


class IndexForm(forms.Form):
    """The types of a new dataset's properties, and its unique index; initially the inferred ones.

    The type fields are drawn in the table beside the form.
    """

    title = forms.CharField(
        label="Title", max_length=200, required=False, help_text="What people read in lists. May be blank."
    )
    key = forms.ChoiceField(
        label="Key",
        required=False,
        widget=Dropdown,
        help_text="What records are asked for by, such as a symbol or a station.",
    )
    subkey = forms.ChoiceField(
        label="Subkey",
        required=False,
        widget=Dropdown,
        help_text="Narrows a key, when key and date alone do not tell records apart.",
    )
    date = forms.ChoiceField(
        label="Date",
        required=False,
        widget=Dropdown,
        help_text="What “last”, “from” and “range” go by.",
    )

    def __init__(self, *args: Any, upload: Upload, **kwargs: Any) -> None:
        schema = upload.schema
        super().__init__(*args, **kwargs)
        self.upload = upload
        self.initial = dict(upload.column_mapping)
        for at, one in enumerate(schema.properties):
            look = {"class": "select select-sm", "form": "index", "aria-label": f"Type of {one.name}"}
            self.fields[f"type-{at}"] = forms.ChoiceField(
                label=f"Type of {one.name}",
                choices=[(kind.value, kind.value) for kind in PropertyType],
                initial=one.type.value,
                required=False,
                widget=Dropdown(attrs=look),
            )
        self.fields["key"].choices = choices(schema, KEY_TYPES, GENERATED)  # type: ignore[attr-defined]
        self.fields["subkey"].choices = choices(schema, KEY_TYPES, NONE)  # type: ignore[attr-defined]
        self.fields["date"].choices = choices(schema, DATE_CHOICES, INGESTION_DAY)  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        key, subkey, date = (cleaned.get(role, "") for role in ("key", "subkey", "date"))
        if subkey and not key:
            self.add_error("subkey", "Choose a key as well: a subkey narrows a key.")
        elif subkey and subkey == key:
            self.add_error("subkey", f"Choose another property: {key} is the key already.")
        if date and date in {key, subkey}:
            self.add_error("date", f"Choose another property: {date} is in the index already.")
        return cleaned

    def mapping(self) -> dict[str, str]:
        """The chosen roles of a valid form."""
        return {role: name for role in ("key", "subkey", "date") if (name := self.cleaned_data[role])}

    def types(self) -> dict[str, PropertyType]:
        """The chosen types of a valid form, by property."""
        chosen = {one.name: self.cleaned_data[f"type-{at}"] for at, one in self._properties()}
        return {name: PropertyType(kind) for name, kind in chosen.items() if kind}

    def columns(self) -> list[tuple[str, BoundField, str]]:
        """Each property: its name, its type field, and its value in the first record."""
        sample = self.upload.sample
        return [(one.name, self[f"type-{at}"], sample.get(one.name, "")) for at, one in self._properties()]

    def _properties(self) -> Iterator[tuple[int, Property]]:
        return enumerate(self.upload.schema.properties)


def choices(schema: Schema, types: Any, absent: str) -> list[tuple[str, str]]:
    """The properties that can take a role, and the label for choosing none."""
    fitting = [found.name for found in schema.properties if found.type in types]
    return [("", absent), *((name, name) for name in fitting)]


class AddForm(forms.Form):
    """More data for an existing dataset."""

    file = SentFile()
    duplicates = forms.ChoiceField(
        label="Records that exist already",
        choices=[("ignore", "Keep the old record"), ("replace", "Replace it by the new one")],
        initial="ignore",
        help_text="A record exists already when its key, subkey and date do.",
        widget=Choices,
    )


class DetailsForm(forms.Form):
    """The texts that describe a dataset to people."""

    title = forms.CharField(
        max_length=TEXT_MAX["title"], required=False, help_text="Lists show it below the ID."
    )
    description = forms.CharField(
        max_length=TEXT_MAX["description"],
        required=False,
        widget=forms.Textarea(attrs={"class": "input", "rows": 4}),
        help_text="What a record is, and what its numbers mean.",
    )
    source = forms.CharField(
        max_length=TEXT_MAX["source"], required=False, help_text="Where the data comes from."
    )
    email = forms.EmailField(
        label="E-mail",
        max_length=TEXT_MAX["email"],
        required=False,
        help_text="Whom to ask about it.",
        widget=forms.EmailInput(attrs={"class": "input", "autocomplete": "email"}),
    )


class RenameForm(NamedForm):
    """A new id for a dataset; its current one in another case counts as unchanged."""

    def __init__(self, *args: Any, dataset: Dataset, **kwargs: Any) -> None:
        super().__init__(*args, initial={"name": dataset.name}, **kwargs)
        self.dataset = dataset
        self.fields["name"].label = "New ID"

    def clean_name(self) -> str:
        if self.cleaned_data["name"].upper() == self.dataset.name:
            raise forms.ValidationError(f"{self.dataset.name} is its ID already.")
        return super().clean_name()


class DeleteForm(forms.Form):
    """The dataset's id, typed again, so that a slip deletes nothing."""

    name = forms.CharField(
        max_length=63, widget=forms.TextInput(attrs={"autocomplete": "off", "class": "input mono"})
    )

    def __init__(self, *args: Any, dataset: Dataset, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.dataset = dataset
        field = self.fields["name"]
        field.label = f"Type {dataset.name} to delete it"
        field.error_messages["required"] = f"Type the ID, {dataset.name}."

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        if name.upper() != self.dataset.name:
            raise forms.ValidationError(f"That is another ID. Type {self.dataset.name}.")
        return name
