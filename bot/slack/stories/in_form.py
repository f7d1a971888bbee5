"""Checks who acts in a form, with one more check than elsewhere, for members of several workspaces."""

from bot.policy.gate import Actor
from bot.policy.permit import Permit
from bot.slack.stories.parts import Parts


async def permit_in_form(parts: Parts, actor: Actor, nonce: str) -> Permit:
    """Admit those whom the gate admits, and the person who opened this form; raises AccessRefused, DatabaseTrouble.

    On Enterprise Grid, Slack may name another workspace of the organization at Submit than at the command. That alone
    proves nothing: the enterprise in a payload can be that of the installation while an outsider presses. A user id is
    the same in the whole organization, Slack sets it, and commands come from this workspace only: the person who
    opened the form under that id was here.
    """
    is_opener = False
    if parts.gate.is_of_organization(actor):
        is_opener = await parts.submissions.is_opener(nonce, parts.gate.home.team_id, actor.user_id)
    return await parts.gate.permit(actor, was_here=is_opener)
