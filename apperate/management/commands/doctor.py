"""Examine the installation and report what is wrong and what to do; nothing is changed."""

import argparse
import json
import sys
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError
from django.template.defaultfilters import filesizeformat

from apperate.doctor import examination, retention
from apperate.doctor.findings import FAIL, OK, WARN, Finding, first_line


class Command(BaseCommand):
    help = "Say what is wrong with this installation. Ends with 1 when something will not work."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON array")

        parser.add_argument(
            "--retention", action="store_true",
            help="show each kind of row: how long it is kept, how many there are, their size, what is late",
        )  # fmt: skip

    def handle(self, *args: Any, **options: Any) -> None:
        if options["retention"]:
            self.show_retention(as_json=options["json"])
            return
        findings = examination.examine()
        if options["json"]:
            self.stdout.write(json.dumps([asdict(finding) for finding in findings]))
        else:
            self.tell(findings)
        if any(finding.level == FAIL for finding in findings):
            sys.exit(1)

    def show_retention(self, *, as_json: bool) -> None:
        try:
            kinds = retention.kinds()
        except DatabaseError as error:
            raise CommandError(f"The database cannot be asked: {first_line(error)}.") from None
        if as_json:
            self.stdout.write(json.dumps([asdict(kind) for kind in kinds], default=str))
            return
        head = ("KIND", "KEPT", "ROWS", "SIZE", "OLDEST", "LATE")
        lines = [
            (
                one.name, one.kept, f"{one.rows:,}", filesizeformat(one.size_bytes).replace("\xa0", " "),
                f"{one.oldest:%Y-%m-%d %H:%M}" if one.oldest else "-", f"{one.past:,}" if one.past else "-",
            )
            for one in kinds
        ]  # fmt: skip
        widths = [max(len(line[place]) for line in (head, *lines)) for place in range(len(head))]
        for line in (head, *lines):
            padded = (text.ljust(width) for text, width in zip(line, widths, strict=True))
            self.stdout.write("  ".join(padded).rstrip())

    def tell(self, findings: list[Finding]) -> None:
        styles = {
            OK: self.style.SUCCESS,
            WARN: self.style.WARNING,
            FAIL: self.style.ERROR,
        }
        for finding in findings:
            self.stdout.write(
                f"{styles[finding.level](f'{finding.level:<5}')} {finding.subject}: {finding.detail}"
            )
            if finding.advice:
                self.stdout.write(f"      {finding.advice}")
