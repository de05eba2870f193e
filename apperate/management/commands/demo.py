"""Make the demo, even while a server runs, and print how to use it."""

import argparse
import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apperate.demo import making
from apperate.demo.content import DemoFault


class Command(BaseCommand):
    help = "Make what is missing of the demo, and print its addresses, passwords and tokens."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        parser.add_argument("--reset", action="store_true", help="remove the demo first and make it anew")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            document = making.make(reset=options["reset"]).document()
        except DemoFault as fault:
            raise CommandError(str(fault)) from None
        if options["json"]:
            self.stdout.write(json.dumps(document))
        elif options["verbosity"]:
            self.tell(document)

    def tell(self, document: dict[str, Any]) -> None:
        self.stdout.write(self.style.SUCCESS(f"The demo is ready in the workspace {document['workspace']}."))
        example = f"{document['api_base']}/data/{document['workspace']}/STOCKS/AAPL?last=3"
        for label, text in (
            ("Dashboard", document["tokens_url"]),
            ("  sign in as", f"{document['email']} with {document['password']}"),
            ("Admin", document["admin_url"] or "switched off"),
            ("  sign in as", f"{document['admin_email']} with {document['admin_password']}"),
            ("Secret token", document["secret_token"]),
            ("Publishable", document["publishable_token"]),
            ("Datasets", ", ".join(document["datasets"])),
            ("Core datasets", ", ".join(document["core_datasets"])),
            ("Try", f"curl '{example}&token={document['publishable_token']}'"),
        ):
            self.stdout.write(f"{label:<15}{text}")
