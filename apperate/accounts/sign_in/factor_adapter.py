"""How allauth stores second factors here: the seeds of their codes are encrypted at rest."""

import base64
import logging
import secrets

from allauth.mfa.adapter import DefaultMFAAdapter

from apperate.database import sealing
from apperate.kernel.keyring import UnreadableSecret

logger = logging.getLogger("apperate.accounts")


class FactorAdapter(DefaultMFAAdapter):
    def encrypt(self, text: str) -> str:
        return sealing.seal_factor(text)

    def decrypt(self, encrypted_text: str) -> str:
        """The text; a random seed when no key decrypts it, so that no code is accepted."""
        try:
            return sealing.unseal_factor(encrypted_text)
        except UnreadableSecret as error:
            logger.error("a second factor cannot be read, and takes no code: %s", error)
            # Base32, as TOTP secrets are, so that it is a valid seed.
            return base64.b32encode(secrets.token_bytes(20)).decode()
