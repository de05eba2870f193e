"""The queue's tasks for tokens. Every process imports this, so that a worker knows each task by name."""

from tokens.alerts.telling import look, mail_alert, post_alert
from tokens.usage.rollup import roll_up_usage

__all__ = ["look", "mail_alert", "post_alert", "roll_up_usage"]
