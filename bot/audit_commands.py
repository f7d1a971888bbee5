"""The commands `audit ...`: verify and export the audit, go on with another key, print the webhook's secret."""

import argparse
import asyncio
import io
import re
import sys
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from bot.command_line import argument, command, commands, database_settings, print_now

if TYPE_CHECKING:
    from bot.storage.audit import Head

_audit: Final = commands.add_parser(
    "audit", help="Verify and export the record of all that was done. See docs/audit.md.", allow_abbrev=False
).add_subparsers(title="commands", metavar="COMMAND", required=True)


def _head(text: str) -> "Head":
    from bot.sealing.authenticity import key_id_of
    from bot.storage.audit import Head

    number, _, signature = text.partition(":")
    is_signature = re.fullmatch("[0-9a-f]{16}", signature) or key_id_of(signature)
    if not re.fullmatch("[1-9][0-9]{0,17}", number) or not is_signature:
        problem = "is not NUMBER:SIGNATURE, as the log, an export and `audit verify` write it"
        raise argparse.ArgumentTypeError(problem)
    return Head(number=int(number), signature=signature)


_TIME: Final = re.compile(
    r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d))?", re.IGNORECASE | re.ASCII
)


def _time(text: str) -> datetime:
    with suppress(ValueError, OverflowError):
        if _TIME.fullmatch(text):
            time = datetime.fromisoformat(text.upper())
            return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    problem = f"{text!r} is not a time: write 2026-11-30, or 2026-11-30T12:00:00Z (RFC 3339); a date begins in UTC"
    raise argparse.ArgumentTypeError(problem)


@command(
    argument("--head", type=_head, metavar="NUMBER:SIGNATURE", help="an entry that the chain must contain"),
    among=_audit,
)
def verify(head: "Head | None") -> None:
    """Verify the audit's chain; exit code 1, and the first broken, missing or moved entry, if it is not whole."""
    with database_settings() as settings:
        from bot.operations.audit_report import describe
        from bot.operations.audit_report import verify as verify_chain
        from bot.storage.audit_verifying import Broken

        try:
            verified = asyncio.run(verify_chain(settings, head))
        except Broken as broken:
            print(broken)
            sys.exit(1)
    print(*describe(verified), f"entries: {verified.head.number}", f"head: {verified.head}", sep="\n")
    sys.exit(bool(verified.unverified))


@command(
    argument("--since", type=_time, metavar="TIME", help="2026-11-30, or 2026-11-30T12:00:00Z"),
    argument("--format", choices=("jsonl", "csv"), default="jsonl", dest="form", help="default: %(default)s"),
    among=_audit,
)
def export(since: datetime | None, form: str) -> None:
    """Print the audit's entries, all or those since a time. They name people: keep them as you keep the database."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # whatever the locale: the same bytes everywhere
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace", newline="")
    with database_settings() as settings:
        from bot.operations.audit_report import export as export_entries

        count, head = asyncio.run(export_entries(settings, since, form, print_now))
    print(f"entries: {count}", f"head: {head}", sep="\n", file=sys.stderr)


@command(among=_audit)
def begin() -> None:
    """Go on with another key after the audit's key was lost; ends all that the database holds open, as `restored`."""
    with database_settings() as settings:
        from bot.operations.logs import configure_logging
        from bot.storage.opening import begin_chain

        configure_logging("info", None)
        ended = asyncio.run(begin_chain(settings))
    print(f"Begun. Open submissions that were ended: {ended}. The bot tells their users when it runs.")


@command(among=_audit)
def secret() -> None:
    """Print the secret with which the receiver of R2_CREDENTIAL_AUDIT_WEBHOOK verifies what it gets."""
    with database_settings() as settings:
        from bot.storage.chain_start import read_webhook_secret

        print_now(f"{read_webhook_secret(settings)}\n")
