"""What the pages show of a workspace's storage: what is used, of how much, and what frees room."""

from dataclasses import dataclass

from apperate.accounts.models import Workspace
from datasets.selectors import size_words
from datasets.storage import limits
from datasets.storage.limits import Usage

NEARLY_PERCENT = 90


@dataclass(frozen=True, slots=True)
class Stored:
    """The storage of a workspace in words. Without a limit there is no part of it."""

    usage: Usage

    @property
    def used(self) -> str:
        return size_words(self.usage.used)

    @property
    def limit(self) -> str:
        return size_words(self.usage.limit) if self.usage.limit else ""

    @property
    def percent(self) -> int:
        """How much of the limit is used, rounded down, so that 100 is full."""
        return min(self.usage.used * 100 // self.usage.limit, 100) if self.usage.limit else 0

    @property
    def is_full(self) -> bool:
        return self.usage.is_full

    @property
    def is_nearly_full(self) -> bool:
        return self.percent >= NEARLY_PERCENT

    @property
    def in_words(self) -> str:
        """As it stands beside the size of one dataset."""
        if not self.limit:
            return f"{self.used} in all, no limit in your plan"
        return f"{self.used} in all, of {self.limit} in your plan"


def stored_by(workspace: Workspace) -> Stored:
    return Stored(limits.usage_of(workspace.pk))
