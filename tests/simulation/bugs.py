"""Bugs that the simulation must find, each planted in a copy of the product's source: one promise each."""

from tests.simulation.copies import Bug

CHANGES, ACCESS = "apperate.database.changes", "tokens.gate.access"
LEASES, METER, THROTTLING = "tokens.gate.leases", "tokens.metering.meter", "tokens.gate.throttling"

BUGS: dict[str, Bug] = {
    "a return is sent again under another id": Bug(
        LEASES,
        "await give_back(batch, parameters)",
        "await give_back(uuid.uuid4(), parameters)",
    ),
    "a flush is repeated under another id": Bug(
        METER,
        "await write(*self._unsent)",
        "await write(uuid.uuid4(), self._unsent[1])",
    ),
    "a worker goes by its own clock": Bug(
        CHANGES,
        "return at + timedelta(seconds=now - heard)",
        "return datetime.fromtimestamp(time.time(), UTC)",
    ),
    "what is known is trusted however old it is": Bug(
        CHANGES,
        "if now - self._asked > STALE_SECONDS_MAX:",
        "if False:",
    ),
    "the pending version alone decides": Bug(
        ACCESS,
        "versions = token.versions(now=now)\n    refusal =",
        "versions = token.versions(now=now)[-1:]\n    refusal =",
    ),
    "a slice of a rate is passed twice": Bug(
        THROTTLING,
        "bucket.held += taken\n",
        "bucket.held += 2 * taken\n",
    ),
}
