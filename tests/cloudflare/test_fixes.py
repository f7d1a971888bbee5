"""Each error of the bot's own access says what the operator does about it."""

import pytest

from bot.cloudflare.errors import CloudflareTrouble, OperatorError, Refusal
from bot.cloudflare.fixes import fix_of
from bot.model.errors import BotError, leaves
from bot.settings import Settings

NOT_OURS = {"HTTPS_PROXY"}


@pytest.mark.parametrize("error", leaves(OperatorError), ids=lambda error: error.code)
def test_an_error_of_the_operator_has_a_fix(error: type[BotError]) -> None:
    """It names a setting that exists."""
    fix = fix_of(error)
    assert fix is not None
    assert fix.setting in {field.alias for field in Settings.model_fields.values()} | NOT_OURS
    assert fix.fix


@pytest.mark.parametrize("error", [*leaves(Refusal), *leaves(CloudflareTrouble)], ids=lambda error: error.code)
def test_no_other_error_sends_the_operator_to_the_settings(error: type[BotError]) -> None:
    """What a person or Cloudflare has to do is no fault of the set-up."""
    assert fix_of(error) is None
