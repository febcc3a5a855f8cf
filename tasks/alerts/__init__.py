"""What operators are told: events, alerts and messages to a webhook."""
