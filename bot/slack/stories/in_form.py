"""Who is at work in a form: one check more than at any other entrance, for the members of several workspaces."""

from bot.policy.gate import Actor, Permit
from bot.slack.stories.parts import Parts


async def permit_in_form(parts: Parts, actor: Actor, nonce: str) -> Permit:
    """Let in whom the gate lets in, and who opened this form here; raises AccessRefused, DatabaseTrouble.

    On Enterprise Grid, Slack may name another workspace of the organization at Submit than at the command. That alone
    proves nothing: the enterprise in a payload can be that of the installation while an outsider presses. A user id is
    the same in the whole organization, Slack sets it, and commands come from this workspace only: who opened the form
    under that id was here.
    """
    is_opener = False
    if parts.gate.is_of_organization(actor):
        is_opener = await parts.submissions.is_opener(nonce, parts.gate.home.team_id, actor.user_id)
    return await parts.gate.permit(actor, was_here=is_opener)
