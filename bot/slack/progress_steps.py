"""The lines of a modal's progress, made from the plan that the delivery follows."""

from bot.delivery.plan import PLANS
from bot.model.submission import Task
from bot.slack.messages.outcome import ProgressStep


def steps_of(task: Task) -> tuple[ProgressStep, ...]:
    """Return the steps that have a label, in their order."""
    return tuple(ProgressStep(state=step.state, label=step.label) for step in PLANS[task] if step.label)
