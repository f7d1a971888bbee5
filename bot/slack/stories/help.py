"""`help`: lists the subcommands, for everyone."""

from dataclasses import dataclass

from bot.slack.inbound.payloads import Command
from bot.slack.inbound.routes import Routes
from bot.slack.subcommands import HELP, help_text


@dataclass(frozen=True, slots=True)
class Help:
    """Answers everyone, including people who may not use the bot."""

    def register(self, routes: Routes) -> None:
        """Take the subcommand."""
        routes.on_command(HELP, self.answer)

    async def answer(self, command: Command) -> str:  # noqa: ARG002 - the same for everyone
        """Return the text."""
        return help_text()
