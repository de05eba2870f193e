"""An installation whose database is elsewhere: a cluster of its own, and a proxy between the two."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.torture.external.cluster import Cluster, external
from tests.torture.external.proxy import Proxy, proxied
from tests.torture.stage import Stage


class BehindProxy(Stage):
    """Its database is reached through a proxy; the tables are read past it."""

    straight_url = ""

    @property
    def direct_url(self) -> str:
        return self.straight_url


@dataclass(frozen=True)
class Elsewhere:
    stage: BehindProxy
    proxy: Proxy
    cluster: Cluster


@contextlib.contextmanager
def elsewhere(home: Path, seed: int) -> Iterator[Elsewhere]:
    """All three, running until the end of the block."""
    with external() as cluster, proxied(cluster.port, seed) as proxy:
        stage = BehindProxy(home, cluster.url_by(proxy.port))
        stage.straight_url = cluster.url
        try:
            stage.start()
            yield Elsewhere(stage, proxy, cluster)
        finally:
            stage.end()
