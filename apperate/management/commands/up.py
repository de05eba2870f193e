"""Start everything: the database, the server and the background work, until Ctrl-C."""

import hashlib
import ipaddress
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command, get_commands
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import OperationalError, connections

from apperate.backup import restoring, status
from apperate.database import disk
from apperate.database.embedded import launcher
from apperate.kernel import keyring
from apperate.management.commands.backup import passphrase_of
from apperate.running import listening, programs, renewal, supervisor
from apperate.running.configuration import UNIX, URL_FILE, flag, integer
from apperate.running.supervisor import Child, ChildFailed, Pause

READY_SECONDS_MAX = 60
TABLES_LOCK = 4_150_023
KEEP_SECONDS, KEEP_SECONDS_MAX = 1.0, 30.0


class Command(BaseCommand):
    help = "Start the database, the server and the background work, and stop them with Ctrl-C."
    requires_migrations_checks = False

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--prepare", action="store_true",
            help="only check the settings, migrate and collect static files, beside what may be running",
        )  # fmt: skip

    def handle(self, *args: Any, **options: Any) -> None:
        if options["prepare"]:
            self.values()
            self.prepared()
            return
        self.children: list[Child] = []
        self.leaving: list[Child] = []
        self.beside: list[Child] = []  # what no reload replaces, because two of it cannot run
        self.is_reload_asked = False
        self.renewal: Generator[None] | None = None
        try:
            with ExitStack() as stack, supervisor.stop_signals(self.ask_for_reload):
                try:
                    self.run(stack)
                except supervisor.StopAsked:
                    self.stdout.write("Stopping …")
                finally:
                    self.stop()
        except supervisor.StopAsked:
            # A second signal while stopping: the children are killed without waiting for the database.
            sys.exit(1)

    def run(self, stack: ExitStack) -> None:
        """Check the values, prepare, start, and watch until a signal or a failure."""
        host, port = self.values()
        try:
            self.held = listening.hold(host, port, settings.WORKERS)
        except ImproperlyConfigured as error:
            raise CommandError(str(error), returncode=2) from None
        stack.callback(self.held.close)
        try:
            self.note = stack.enter_context(listening.the_only_one(settings.DATA_DIR, settings.PUBLIC_URL))
        except ImproperlyConfigured as error:
            raise CommandError(" ".join(str(error).split()), returncode=1) from None
        self.prepared()
        clear_figures()
        self.serve()

    def values(self) -> tuple[str, int]:
        """Host and port; wrong values are one line."""
        try:
            host, port = listening_values()
            refuse_open_http(host)
            refuse_unseen_https()
            refuse_unclear_backups()
        except ImproperlyConfigured as error:
            raise CommandError(str(error), returncode=2) from None
        return host, port

    def prepared(self) -> None:
        try:
            self.prepare()
        except (ImproperlyConfigured, OperationalError) as error:
            raise CommandError(" ".join(str(error).split()), returncode=1) from None
        finally:
            connections.close_all()

    def serve(self) -> None:
        self.held.listen()
        keeper = DatabaseKeeper(self.stderr.write)
        try:
            for children, started in (
                (self.children, programs.of_version(self.held.sockets)),
                (self.beside, programs.publishers()),
            ):
                for child in started:
                    children.append(child)
                    child.start()
            supervisor.wait_until_ready(
                [*self.children, *self.beside], self.children[0].has_reported, seconds_max=READY_SECONDS_MAX
            )
            self.greet()
            for child in programs.archivists():  # Once it answers, so that they do not make that later.
                self.beside.append(child)
                child.start()
            supervisor.watch(self.children, say=self.stderr.write, each_second=keeper, each_tick=self.tick)
        except ChildFailed as failed:
            raise CommandError(f"{failed}; everything else was stopped.") from None

    def stop(self) -> None:
        """End what runs. Connections are refused from here on; the data directory is held until the end."""
        if hasattr(self, "held"):
            self.held.close()
        if self.renewal is not None:
            self.renewal.close()
        supervisor.stop([*self.children, *self.leaving, *self.beside])
        if self.children:
            note().unlink(missing_ok=True)
        connections.close_all()
        launcher.release(settings.DATA_DIR / "db")

    def ask_for_reload(self) -> None:
        self.is_reload_asked = True

    def tick(self) -> None:
        supervisor.mend(self.beside, say=self.stderr.write)
        self.renew()

    def renew(self) -> None:
        """Take the next step of a rolling restart, if one is asked for or under way."""
        supervisor.collect(self.leaving)
        if self.renewal is None:
            if not self.is_reload_asked:
                return
            self.is_reload_asked = False
            self.stdout.write("Reloading …")
            prepare = programs.manage("up", "--prepare")
            self.renewal = renewal.renewed(
                self.children, self.leaving, successors=lambda: programs.of_version(self.held.sockets),
                preparation=renewal.prepared(prepare, os.environ, settings.BASE_DIR),
            )  # fmt: skip
        try:
            next(self.renewal)
            return
        except StopIteration:
            problem = ""
            for child in self.beside:  # They are started again from the new checkout.
                child.send(signal.SIGTERM)
            self.stdout.write("Reloaded.")
        except ChildFailed as failed:
            problem = str(failed)
            self.stderr.write(f"Not reloaded: {problem}. What ran goes on.")
        self.renewal = None
        self.note.reloaded(problem)

    def prepare(self) -> None:
        """Bring tables, static files and the demo up to this version; quick when they already are."""
        restoring.refuse_half_restored()
        with one_host_at_a_time():
            call_command("migrate", interactive=False, verbosity=0)
            if os.environ.get("DATABASE_OWNER_URL"):
                call_command("grants", apply=True, verbosity=0)
            call_command("createcachetable", verbosity=0)
        refuse_lost_keys()
        collect_static()
        close_folders()
        if wants_demo():
            if "demo" in get_commands():
                self.stdout.write("Making the demo …")
                call_command("demo", verbosity=0)
            else:
                self.stdout.write("There is no demo in this version.")

    def greet(self) -> None:
        from apperate.accounts.models import User

        note().write_text(settings.PUBLIC_URL)
        self.stdout.write(self.style.SUCCESS(f"Apperate runs at {settings.PUBLIC_URL}"))
        for sentence in about_backups():
            self.stdout.write(sentence)
        first = User.objects.order_by("pk").values_list("email", flat=True).first()
        connections.close_all()
        if first is None:
            self.stdout.write(
                "Nobody can sign in yet: `manage.py createworkspace` makes the first workspace."
            )
        elif settings.DEMO_ENABLED and "DATABASE_URL" not in os.environ:
            self.stdout.write(f"Sign in as {first}; `manage.py demo --json` prints the password.")
        self.stdout.write("Ctrl-C stops it.")


@contextmanager
def one_host_at_a_time() -> Iterator[None]:
    """Hosts of one database that start together change its tables one after the other."""
    held = connections.create_connection("default")
    try:
        with held.cursor() as cursor:
            cursor.execute("SET lock_timeout = 0")
            cursor.execute("SELECT pg_advisory_lock(%s)", [TABLES_LOCK])
        yield
    finally:
        held.close()


def refuse_lost_keys() -> None:
    """A new key, made without a word, would be noticed only when a secret of a year ago is needed."""
    from tokens.models import Secret

    path = Path(settings.DATA_DIR) / keyring.KEY_FILE
    if os.environ.get(keyring.KEYS_VARIABLE, "").strip() or path.exists():
        return
    if Secret.objects.filter(ciphertext__isnull=False).exists():
        raise ImproperlyConfigured(
            f"{path} is gone, and the database holds secrets that only its keys decrypt. Put it back from a "
            f"backup, or set {keyring.KEYS_VARIABLE}. To give these secrets up, make a new key with "
            "`manage.py reencrypt --new-key`, and start again."
        )


def refuse_unclear_backups() -> None:
    """Where regular backups are wanted, it must be said what becomes of the keys."""
    if settings.BACKUP_TO:
        passphrase_of({"passphrase_file": None, "without_keys": False}, said=True)
    if settings.WAL_ARCHIVE and os.environ.get("DATABASE_URL"):
        raise ImproperlyConfigured(
            "APPERATE_WAL_ARCHIVE is for the embedded database; the server of DATABASE_URL has means of its "
            "own, such as archive_command. Unset one of the two."
        )


def about_backups() -> list[str]:
    """What whoever starts it should know: a restore that was done here, and backups that are late."""
    said = [restoring.said_of_last(), status.lateness(status.read(), now=datetime.now(UTC))]
    return [sentence for sentence in said if sentence]


def close_folders() -> None:
    """Make folders of customer data private, also those of older versions, and remove what the dead left."""
    from datasets.storage import kept_folders

    kept_folders.make_private()
    kept_folders.remove_abandoned()


def clear_figures() -> None:
    """They count from the start of `up`; Prometheus takes a number that falls for a new beginning."""
    shutil.rmtree(settings.METRICS_DIR, ignore_errors=True)


def note() -> Path:
    """The file where other commands find the running server's URL."""
    return Path(settings.DATA_DIR) / URL_FILE


def listening_values() -> tuple[str, int]:
    """Host and port from HOST and PORT."""
    host = os.environ.get("HOST", "127.0.0.1")
    if not host.strip():
        raise ImproperlyConfigured(
            "HOST is empty: use 127.0.0.1 for this machine alone, or 0.0.0.0 for all of its addresses."
        )
    if host.startswith(UNIX) and not os.environ.get("APPERATE_PUBLIC_URL"):
        raise ImproperlyConfigured(
            f"HOST={host} has no URL of its own: set APPERATE_PUBLIC_URL to that of the proxy in front, and "
            "APPERATE_TRUSTED_PROXIES to 1."
        )
    port = integer(os.environ, "PORT", default=8000, low=1, high=65_535)
    return host, port


def refuse_open_http(host: str) -> None:
    """Tokens must not cross a network in clear text by accident. Source: docs/security-checks.md."""
    try:
        is_local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_local = host == "localhost" or host.startswith(UNIX)
    allowed = flag(os.environ, "APPERATE_ALLOW_HTTP", default=False)
    if not (is_local or settings.SERVES_HTTPS or allowed):
        raise ImproperlyConfigured(
            f"HOST={host} is open to the network and APPERATE_PUBLIC_URL is not https: tokens would travel "
            "in clear. Set APPERATE_PUBLIC_URL=https://…, or APPERATE_ALLOW_HTTP=1 if the network is trusted."
        )


def refuse_unseen_https() -> None:
    """Behind a proxy that is not trusted every request would look like http, and be redirected for ever."""
    if settings.SERVES_HTTPS and not settings.TRUSTED_PROXIES:
        raise ImproperlyConfigured(
            "APPERATE_PUBLIC_URL is https, and APPERATE_TRUSTED_PROXIES is 0: Apperate could not see that a "
            "request came by https. Set it to how many proxies stand in front, such as 1; they must set "
            "X-Forwarded-Proto."
        )


def collect_static() -> None:
    """Collect the static files if one of them, or Django, changed since last time."""
    digest = hashlib.sha256(f"{django.__version__} {settings.STORAGES['staticfiles']['BACKEND']}".encode())
    for finder in get_finders():
        for path, storage in finder.list([]):
            found = os.stat(storage.path(path))
            digest.update(f"{path} {found.st_size} {found.st_mtime_ns}\n".encode())
    stamp = Path(settings.STATIC_ROOT) / ".collected"
    if stamp.exists() and stamp.read_text() == digest.hexdigest():
        return
    call_command("collectstatic", interactive=False, verbosity=0)
    stamp.parent.mkdir(parents=True, exist_ok=True)
    stamp.write_text(digest.hexdigest())


def wants_demo() -> bool:
    """Whether to make the demo: only in an embedded database without any workspace."""
    if os.environ.get("DATABASE_URL") or not settings.DEMO_ENABLED:
        return False
    from apperate.accounts.models import Workspace

    return not Workspace.objects.exists()


class DatabaseKeeper:
    """Brings the embedded server back if even its watcher was killed, and says when a disk is full.

    Called each second. What cannot be started is tried again after a growing pause, for ever.
    """

    def __init__(self, say: Callable[[str], object]) -> None:
        self.say = say
        self.pause = Pause(KEEP_SECONDS, KEEP_SECONDS_MAX)
        self.next_at = 0.0

    def __call__(self) -> None:
        disk.shortage()  # Logs it, once a minute.
        if settings.DATABASES["default"]["ENGINE"] != "apperate.database.embedded":
            return
        if time.monotonic() < self.next_at:
            return
        try:
            launcher.keep(settings.DATA_DIR / "db")
            self.pause.reset()
        except (ImproperlyConfigured, OperationalError, OSError) as error:
            seconds = self.pause.take()
            self.say(f"{' '.join(str(error).split())} It is tried again in {seconds:g} s.")
            self.next_at = time.monotonic() + seconds
