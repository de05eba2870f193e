"""Encrypt every stored secret under the first key of the key ring; --new-key puts a new key there first."""

import argparse
import os
import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from apperate.database import sealing
from apperate.kernel import keyring
from tokens.services import reencryption


class Command(BaseCommand):
    help = "Encrypt every stored secret under the first key of the key ring. The others still decrypt."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--new-key", action="store_true", help="make a new first key in the key file")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            if options["new_key"]:
                self.add_key()
            sealing.keys.cache_clear()
            outcome = reencryption.reencrypt()
        except (keyring.BadKeys, OSError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(
            f"{outcome.encrypted} encrypted anew, {outcome.unchanged} were under the first key already"
        )
        if outcome.unreadable:
            self.stderr.write(f"No key on the ring decrypts the secrets of {', '.join(outcome.unreadable)}.")
            sys.exit(1)

    def add_key(self) -> None:
        if os.environ.get(keyring.KEYS_VARIABLE, "").strip():
            raise CommandError(
                f"The keys stand in {keyring.KEYS_VARIABLE}: put a new one before them there, "
                f"restart Apperate, and run this without --new-key. A key: {keyring.new_key()}"
            )
        keyring.add_first_key(settings.DATA_DIR)
        self.stdout.write(f"A new first key stands in {settings.DATA_DIR / keyring.KEY_FILE}")
