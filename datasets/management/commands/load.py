"""Load a file into a dataset from the shell; a missing dataset is made."""

import argparse
import csv
import time
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apperate.accounts.models import CORE, PREMIUM, Workspace
from apperate.database.clock import database_now
from apperate.kernel.refusals import Refusal
from datasets.jobs.loading import Loaded, load_file
from datasets.jobs.run import sentence
from datasets.models import IngestJob
from datasets.records.schema import INDEX_ROLES, dataset_id
from datasets.services import creating
from datasets.storage import job_files

SHOWN_MAX = 5
ROLE_WORDS = {"key": "generated", "subkey": "none", "date": "the day of ingestion"}


class Command(BaseCommand):
    help = "Load a CSV, JSON or JSON-lines file (also .gz) into a dataset; a missing dataset is made."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("workspace", help="its id in URLs; CORE and PREMIUM are made when missing")
        parser.add_argument("dataset", help="its id in URLs")
        parser.add_argument("file", type=Path)
        for role in INDEX_ROLES:
            parser.add_argument(f"--{role}", metavar="PROPERTY", help=f"the property that is the {role}")
        parser.add_argument("--replace", action="store_true", help="a record that is there is replaced")
        parser.add_argument("--title", default="", help="of a new dataset")

    def handle(self, *args: Any, **options: Any) -> None:
        begun = time.monotonic()
        workspace = find_workspace(options["workspace"])
        mapping = {role: options[role] for role in INDEX_ROLES if options[role]}
        try:
            loaded = load_file(
                workspace=workspace,
                name=options["dataset"],
                path=options["file"],
                now=database_now(),
                mapping=mapping,
                replaces=options["replace"],
                details={"title": options["title"]},
            )
        except OSError as error:
            reason = error.strerror or str(error)
            raise CommandError(f"{options['file']} cannot be read: {reason}.") from None
        if isinstance(loaded, Refusal):
            raise CommandError(sentence(loaded))
        self.tell(workspace, loaded, time.monotonic() - begun)

    def tell(self, workspace: Workspace, loaded: Loaded, seconds: float) -> None:
        dataset, job = loaded.dataset, loaded.job
        name = f"{workspace.name}.{dataset.name}"
        if loaded.is_new:
            index = ", ".join(
                f"{role} {dataset.column_mapping.get(role, absent)}" for role, absent in ROLE_WORDS.items()
            )
            self.stdout.write(f"Made {name}: {len(dataset.schema.properties)} properties, {index}.")
        self.stdout.write(
            self.style.SUCCESS(
                f"{name}: {job.stored:,} records stored, {job.duplicates:,} duplicates, "
                f"{job.invalid:,} invalid lines, in {seconds:.1f} s."
            )
        )
        for line in first_invalid(job):
            self.stderr.write(f"line {line['lineNumber']}: {line['error']}")
        if job.invalid > SHOWN_MAX:
            self.stderr.write(f"and {job.invalid - SHOWN_MAX:,} more invalid lines")


def find_workspace(text: str) -> Workspace:
    """The workspace of that name; CORE and PREMIUM are made if missing."""
    name = dataset_id(text)
    if isinstance(name, Refusal):
        raise CommandError(f"The workspace {text!r} cannot be: needed {name.needed}.")
    if name in {CORE, PREMIUM}:
        return creating.system_workspace(name)
    workspace = Workspace.objects.filter(name=name).first()
    if workspace is None:
        known = ", ".join(Workspace.objects.order_by("name").values_list("name", flat=True)[:20])
        raise CommandError(f"There is no workspace {name}. Needed: one of {known or 'those you make first'}.")
    return workspace


def first_invalid(job: IngestJob) -> list[dict[str, str]]:
    """The first invalid lines of a job."""
    lines = job_files.invalid_lines(job).decode().splitlines()
    return list(csv.DictReader(lines))[:SHOWN_MAX]
