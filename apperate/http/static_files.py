"""Static files in production: their names hold a hash of the content, so browsers may keep them for good.

STYLES               the style sheets of every page, in their order
style_addresses()    what a page links: all of them, or the one that they are joined to
"""

from collections.abc import Iterator
from typing import Any

from django.contrib.staticfiles.storage import staticfiles_storage
from django.core.files.base import ContentFile
from django.templatetags.static import static
from whitenoise.storage import CompressedManifestStaticFilesStorage

# The first one puts the layers in order.
STYLES = tuple(
    f"css/{name}.css"
    for name in (
        "theme", "base", "layout", "buttons", "cards", "status", "tables", "popovers",
        "forms", "controls", "text", "charts", "pages", "utilities",
    )
)  # fmt: skip
JOINED = "css/joined.css"


class CollectedStaticFiles(CompressedManifestStaticFilesStorage):
    """Joins the style sheets to one, because each would delay the first paint by its request.

    It also puts the hashed names into the imports of Apperate's own scripts. Django can do so for all
    scripts, but stops at one of django-htmx, which imports what it does not bring.
    """

    patterns = (
        *CompressedManifestStaticFilesStorage.patterns,
        ("js/*.js", ((r"""(?P<matched>\b(?P<word>from|import) "(?P<url>\./.*?)")""", '%(word)s "%(url)s"'),)),
    )

    def post_process(
        self, paths: dict[str, Any], dry_run: bool = False, **options: Any
    ) -> Iterator[tuple[str, str, bool]]:
        if not dry_run and paths.keys() >= set(STYLES):
            parts = []
            for name in STYLES:
                storage, path = paths[name]
                with storage.open(path) as file:
                    parts.append(file.read())
            self.delete(JOINED)
            self.save(JOINED, ContentFile(b"\n".join(parts)))
            paths[JOINED] = (self, JOINED)
        yield from super().post_process(paths, dry_run, **options)


def style_addresses() -> list[str]:
    names = (JOINED,) if isinstance(staticfiles_storage, CollectedStaticFiles) else STYLES
    return [static(name) for name in names]
