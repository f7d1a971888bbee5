"""Filled-in forms as Slack sends them, each with a number, and the openings that the bot must know for them."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

from bot.model.submission import Opening
from bot.sandbox.tokens import Behaviour, make_token
from bot.slack.form import Filling, build_form
from bot.storage.chain_start import set_up_with
from bot.storage.sqlite import SqliteDatabase
from bot.storage.submissions import Submissions
from tests.benchmarks.alternatives.load import MARK
from tests.make import CHAIN

USER: Final = "U0ADA0001"
CHANNEL: Final = "C0DATAPLT"


def form_body(team_id: str, bucket: str = f"lake-{MARK}") -> str:
    """Return the body of each request; `MARK` stands for its number, in the nonce, the view, the token, the bucket."""
    return urlencode({"payload": json.dumps(submission(team_id, bucket))})


def submission(team_id: str, bucket: str, number: str = MARK) -> dict[str, object]:
    """Return the payload of a filled-in form, with the whole form in it: Slack sends that along."""
    token = make_token(Behaviour.GOOD)[: -len(MARK)] + number
    values = {
        "bucket": {"bucket": {"type": "external_select", "selected_option": {"value": bucket}}},
        "token": {"token": {"type": "plain_text_input", "value": token}},
        "channel": {"channel": {"type": "conversations_select", "selected_conversation": CHANNEL}},
        "reason": {"reason": {"type": "plain_text_input", "value": None}},
    }
    view = build_form(nonce=f"nonce-{number}", filling=Filling(), catalogs=[]) | {
        "id": f"V000{number}",
        "team_id": team_id,
        "app_installed_team_id": team_id,
        "state": {"values": values},
    }
    user = {"id": USER, "team_id": team_id}
    return {"type": "view_submission", "team": {"id": team_id}, "user": user, "view": view, "response_urls": []}


async def record_openings(path: Path, team_id: str, count: int) -> None:
    """Record an opening for each number below `count`, as if a command had been typed for each.

    The bot needs `AUDIT_KEY` as its key, or it takes them for forged.
    """
    database = SqliteDatabase(path, set_up_with(CHAIN, lambda: datetime.now(UTC)))
    database.start()
    submissions = Submissions(database, CHAIN)
    expires_at = datetime.now(UTC) + timedelta(hours=1)
    openings = (
        Opening(nonce=f"nonce-{number:0{len(MARK)}}", team_id=team_id, user_id=USER, expires_at=expires_at)
        for number in range(count)
    )
    await asyncio.gather(*(submissions.add_opening(opening) for opening in openings))
    database.stop()
