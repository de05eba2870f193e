"""Static files in production: their names hold a hash of the content, so browsers may keep them for good."""

from whitenoise.storage import CompressedManifestStaticFilesStorage


class ModuleManifestStaticFilesStorage(CompressedManifestStaticFilesStorage):
    """Puts the hashed names into the imports of Apperate's own scripts, as Django does in style sheets.

    Django can do so for all scripts, but stops at one of django-htmx, which imports what it does not bring.
    """

    patterns = (
        *CompressedManifestStaticFilesStorage.patterns,
        ("js/*.js", ((r"""(?P<matched>\b(?P<word>from|import) "(?P<url>\./.*?)")""", '%(word)s "%(url)s"'),)),
    )
