"""What whoever visits may do here: everything on one's own machine, less where strangers come."""

from dataclasses import dataclass, field

from webapp.limits import Limits


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Chosen at the entry point. The defaults suit a start of one's own."""

    notice: str = ""
    """What every page says below its bar; nothing where it is empty."""
    plans: tuple[str, ...] | None = None
    """The plans a visitor may start, by name; None is every plan there is."""
    why_no_plans: str = "There is no plan in the plans' folder."
    """Said where no plan is offered."""
    largest_upload: str | None = None
    """As Gradio writes sizes, for example `20mb`; None takes files of any size."""
    metrics: bool = True
    """Whether `/metrics` answers, and the page of the machine says how busy it is and how long
    everybody's pictures took: that may be nobody's business."""
    unload: bool = True
    """Whether whoever visits may make the models leave the memory."""
    twins: bool = True
    """Whether an idle machine reruns people's pictures with the baseline's settings."""
    limits: Limits = field(default_factory=Limits)
    """What one person may ask for."""


OWN = Policy()
"""Whoever starts the app on a machine of their own may do everything."""
