"""What is known of a token and of a slot, in the words that results and requests share.

This module cannot import `secret` or `sealing` (a lint contract): it never sees a token, sealed or not.
"""

from datetime import datetime
from typing import Final

from bot.model.catalog import CredentialStatus
from bot.model.submission import Findings, TokenKind
from bot.slack.blocks import escape
from bot.slack.messages.explanation import expiry

CREDENTIAL_WORDS: Final = {
    CredentialStatus.VALID: "works",
    CredentialStatus.INVALID: "does not work",
    CredentialStatus.PRESENT: "present",
    CredentialStatus.ABSENT: "none",
    CredentialStatus.UNKNOWN: "not known",
}
_TOKEN_WORDS: Final = {
    TokenKind.USER: "user API token",
    TokenKind.ACCOUNT: "account API token",
    TokenKind.UNPREFIXED: "API token",
}


def token_facts(
    findings: Findings | None, token_kind: TokenKind, last_four: str, now: datetime, *, is_in_vain: bool = False
) -> list[tuple[str, str]]:
    """Return the token's kind and last four characters and, where Cloudflare says them, its id and expiry.

    Without last characters it is one that the bot makes: nothing is said of it before it is there. `is_in_vain`: it is
    used nowhere, so the bot takes it back.
    """
    token = findings.token if findings else None
    if token is None and not last_four:
        return []
    kind = _TOKEN_WORDS.get(token.owner if token else token_kind, "token")
    made = "made by the bot, which deletes it" if is_in_vain else "made by the bot"
    facts = [("Token", f"{kind} ending in `{escape(last_four)}`" if last_four else f"{kind}, {made}")]
    if token is None:
        return facts
    return [*facts, ("Token ID", f"`{escape(token.id)}`"), ("Expires", expiry(token.expires_at, now))]
