"""Loads the keys of a process: the operator's, the bot's own, or the public half of those who only seal."""

from datetime import datetime
from typing import Final

from bot.model.errors import KeyFileUnusable, StartRefused
from bot.sealing.hpke import KeyRing, PublicRing, load_private_keys, load_public_key
from bot.sealing.key_files import KeyFiles
from bot.settings import Settings

KEY_DIRECTORY: Final = "sealing-keys"


def load_ring(settings: Settings, now: datetime) -> tuple[KeyFiles | None, KeyRing]:
    """Return the operator's key ring, which the bot never changes, or the generated one with its key files."""
    try:
        given = read_given_keys(settings)
        if given is not None:
            return None, given
        key_files = KeyFiles(settings.data_dir / KEY_DIRECTORY)
        return key_files, key_files.load(now)
    except KeyFileUnusable as error:
        raise StartRefused(str(error)) from None
    except ValueError as error:
        message = f"R2_CREDENTIAL_SEALING_KEY: {error}"
        raise StartRefused(message) from None


def read_given_keys(settings: Settings) -> KeyRing | None:
    """Return the operator's keys, or None if the bot makes its own; raises ValueError that quotes nothing."""
    pem = settings.sealing_key
    return None if pem is None else KeyRing(*load_private_keys(pem.reveal()))


def read_public_key(settings: Settings) -> PublicRing:
    """Return the key with which a process seals that opens nothing; raises ValueError that quotes nothing."""
    pem = settings.sealing_public_key
    return PublicRing(load_public_key("" if pem is None else pem.reveal()))


def load_public_ring(settings: Settings) -> PublicRing:
    """Return the key with which a process seals that opens nothing; raises StartRefused."""
    try:
        return read_public_key(settings)
    except ValueError as error:
        message = f"R2_CREDENTIAL_SEALING_PUBLIC_KEY: {error}"
        raise StartRefused(message) from None
