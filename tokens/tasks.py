"""What the queue can run for tokens. Every process imports this, so a worker knows each task by name."""

from tokens.alerts import look, mail_alert, post_alert

__all__ = ["look", "mail_alert", "post_alert"]
