"""How long does it take to decide whether a page is allowed? `python -m benchmarks.domains [ROUNDS]`.

The longest Referer (4,096 characters) of several shapes against a full list of 50 rules, each shape decided
ROUNDS times. The time is what the process had of a core: others may share it. The slowest decision counts,
not the mean; no rule allows the page, so every rule is looked at.
"""

import sys
import time

from tokens.rules.domains import RULES_MAX, match, parse_rules
from tokens.rules.page_address import ADDRESS_CHARACTERS_MAX

REFERERS = {
    "labels": "https://" + "a." * 2042 + "com/",
    "path": "https://example.com/" + "p" * 4076,
    "dot segments": "https://example.com/" + "../" * 1358,
    "encoded dot segments": "https://example.com/" + "%2e%2e/" * 582,
    "A-labels": "https://" + "xn--ls8h." * 453 + "com/",
    "colons": "https://[" + ":" * 4086 + "]",
    "digits": "https://" + "9" * 4088,
}


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000
    rules, errors = parse_rules(
        " ".join(f"*.{'a.' * 100}example{number}.com/{'p' * 500}" for number in range(RULES_MAX))
    )
    assert len(rules) == RULES_MAX and not errors
    for shape, referer in REFERERS.items():
        assert ADDRESS_CHARACTERS_MAX - 8 <= len(referer) <= ADDRESS_CHARACTERS_MAX
        taken = []
        for _ in range(rounds):
            started = time.thread_time()
            allowed = match(rules, referer=referer, origin=None).allowed
            taken.append(time.thread_time() - started)
            assert not allowed
        print(f"{shape}: median {sorted(taken)[rounds // 2] * 1e3:.3f} ms, slowest {max(taken) * 1e3:.3f} ms")


if __name__ == "__main__":
    main()
