"""What stands around an installation: the address people use, and the mail server."""

import fcntl
import http.client
import smtplib
from pathlib import Path
from urllib.parse import urlsplit

from django.conf import settings
from django.core.mail import get_connection
from django.http.request import split_domain_port, validate_host

from apperate.accounts.sign_in.mail import can_send
from apperate.doctor.findings import FAIL, OK, WARN, Finding, first_line
from apperate.kernel.hosts import is_loopback
from apperate.running.listening import RUNNING_FILE

MAIL_SECONDS_MAX = 3
ANSWER_SECONDS_MAX = 3


def public_address() -> Finding:
    """Do people and programs connect over https, and does the dashboard answer to its own name?"""
    subject = "Public address"
    host = split_domain_port(settings.PUBLIC_URL.partition("://")[2])[0].strip("[]")
    if not validate_host(host, settings.ALLOWED_HOSTS):
        detail = f"Pages refuse {host}: it is not among APPERATE_ALLOWED_HOSTS."
        return Finding(FAIL, subject, detail, f"Add {host} to APPERATE_ALLOWED_HOSTS.")
    if settings.SERVES_HTTPS and not settings.TRUSTED_PROXIES:
        detail = "It is https, and no proxy is trusted to say so: every page is redirected to itself."
        return Finding(FAIL, subject, detail, "Set APPERATE_TRUSTED_PROXIES to the number of proxies.")
    if settings.SERVES_HTTPS or is_loopback(host):
        return Finding(OK, subject, settings.PUBLIC_URL)
    return Finding(
        WARN,
        subject,
        f"{settings.PUBLIC_URL} is plain http: tokens and passwords cross the network in clear.",
        "Serve it over https and set APPERATE_PUBLIC_URL=https://….",
    )


def answering() -> Finding:
    """While Apperate runs here, does it answer at the address that people and programs are told?"""
    subject = "Answers"
    if not is_running():
        return Finding(OK, subject, "`manage.py up` does not run here, so none is expected.")
    try:
        status, text = asked(f"{settings.PUBLIC_URL}/livez")
    except (OSError, http.client.HTTPException) as error:
        detail = f"Nobody answers at {settings.PUBLIC_URL}, which links and pages name: {first_line(error)}."
        advice = "Compare APPERATE_PUBLIC_URL with PORT, and with what the proxy listens on and passes to."
        return Finding(WARN, subject, detail, advice)
    if (status, text) != (200, "ok"):
        detail = f"Somebody else answers at {settings.PUBLIC_URL}: {status} for /livez, and not 200."
        return Finding(WARN, subject, detail, "Compare APPERATE_PUBLIC_URL with PORT and with the proxy.")
    return Finding(OK, subject, f"It answers at {settings.PUBLIC_URL}.")


def is_running() -> bool:
    """Whether a `manage.py up` holds the data directory. The lock is only looked at."""
    try:
        with (Path(settings.DATA_DIR) / RUNNING_FILE).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def asked(url: str) -> tuple[int, str]:
    """Status and first characters of an answer. Redirects are not followed: a probe gets none."""
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    wire = kind(parts.hostname or "", parts.port, timeout=ANSWER_SECONDS_MAX)
    try:
        wire.request("GET", parts.path)
        answer = wire.getresponse()
        return answer.status, answer.read(100).decode("utf-8", "replace").strip()
    finally:
        wire.close()


def mail() -> Finding:
    if not can_send():
        detail = "Messages are not sent; over https their links are not printed either."
        return Finding(
            WARN, "E-mail", detail, "Set EMAIL_URL to send invitations, password links and alerts."
        )
    if settings.EMAIL_BACKEND.endswith("console.EmailBackend"):
        return Finding(
            WARN, "E-mail", "Messages are printed, not sent.", "Set EMAIL_URL to send invitations and alerts."
        )
    try:
        server = get_connection(timeout=MAIL_SECONDS_MAX)
        server.open()
        server.close()
    except (OSError, smtplib.SMTPException) as error:
        detail = f"The mail server cannot be reached: {first_line(error)}."
        return Finding(FAIL, "E-mail", detail, "Look at EMAIL_URL, and at the server that it names.")
    return Finding(OK, "E-mail", "Messages are sent.")
