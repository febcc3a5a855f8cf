"""``llm4cdsr test-webhook``: tests the delivery of alerts."""

import typer

from flows.cli.output import terminal

EXAMPLES = "Example:\n\nLLM4CDSR_WEBHOOK_URL=https://chat.example/hooks/… llm4cdsr test-webhook"


def test_webhook() -> None:
    """Post a test message to LLM4CDSR_WEBHOOK_URL and report the response.

    The URL is never shown. Exit status 2 if none is set, 1 if the message was refused.
    """
    from tasks.alerts.webhook import WEBHOOK_VARIABLE, post_test, webhook_url

    url = webhook_url()
    if url is None:
        raise typer.BadParameter(
            f"no webhook is configured: set {WEBHOOK_VARIABLE}, or the Prefect Secret block "
            "llm4cdsr-webhook-url of the server at PREFECT_API_URL"
        )
    fault = post_test(url)
    if fault is not None:
        terminal.err.print(f"Refused: {fault}", highlight=False)
        raise typer.Exit(1)
    terminal.out.print("Delivered: a message of a run named 'a test of the webhook'.")
