"""Examine the installation and report what is wrong and what to do; nothing is changed."""

import argparse
import json
import sys
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand

from apperate.doctor import examination
from apperate.doctor.findings import FAIL, OK, WARN, Finding


class Command(BaseCommand):
    help = "Say what is wrong with this installation. Ends with 1 when something will not work."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON array")

    def handle(self, *args: Any, **options: Any) -> None:
        findings = examination.examine()
        if options["json"]:
            self.stdout.write(json.dumps([asdict(finding) for finding in findings]))
        else:
            self.tell(findings)
        if any(finding.level == FAIL for finding in findings):
            sys.exit(1)

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
