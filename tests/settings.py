"""The product's settings, on a data directory of the tests' own and as the role that may create databases."""

import os
import tempfile
import zlib

os.environ.setdefault("APPERATE_DATABASE_ROLE", "owner")
# A place for each checkout: the tests of two would stop each other's database.
os.environ.setdefault(
    "APPERATE_DATA_DIR",
    os.path.join(tempfile.gettempdir(), f"apperate-tests-{os.getuid()}-{zlib.crc32(__file__.encode()):08x}"),
)
os.environ.setdefault("DJANGO_ALLOW_ASYNC_UNSAFE", "1")  # Playwright runs an event loop in the test's thread.

from apperate.settings import *  # noqa: F403

STORAGES = {
    **STORAGES,  # noqa: F405
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
# Looked for when asked: to list them all takes longer than most tests, and each client would.
WHITENOISE_AUTOREFRESH = True
STATIC_ROOT.mkdir(parents=True, exist_ok=True)  # noqa: F405
EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
# Slow on purpose in the product; the tests sign in often.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
# As with the embedded database, whatever the tests run on; what tests the other way sets it.
UPLOADS = "folder"
# However full the disk of the tests is; what tests the reserve sets it.
DISK_RESERVE_MB = 0
