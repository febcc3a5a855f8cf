"""``llm4cdsr serve-recs``: serves recommendations over HTTP, with a web page."""

import socket
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options.opened_store import opened_store
from flows.cli.options.shared_options import StoreRoot
from flows.cli.output import terminal
from tasks.llm.settings.provider import Provider

LATEST = "latest"

EXAMPLES = (
    "Examples:\n\n"
    "llm4cdsr serve-recs\n\n"
    "llm4cdsr serve-recs --host 0.0.0.0 --port 80 --max-k 50\n\n"
    "llm4cdsr serve-recs --new-items arrivals.parquet\n\n"
    "curl -s localhost:8080/recommendations -H 'content-type: application/json' "
    '-d \'{"history": [{"domain": "food", "item_id": "B001"}], "k": 5}\''
)


def serve_recs(
    store: StoreRoot = None,
    release: Annotated[
        str, typer.Option(help="latest, or the fingerprint of a release to serve permanently.")
    ] = LATEST,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 for all addresses of this machine.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 selects a free one.")] = 8080,
    max_history: Annotated[int, typer.Option(min=1, help="Maximum items of a history.")] = 500,
    max_k: Annotated[int, typer.Option(min=1, help="Maximum items per domain and request.")] = 100,
    follow_seconds: Annotated[
        float, typer.Option(min=1, help="Seconds between checks for a newer release.")
    ] = 30.0,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            help="Accepted Host name beside IP addresses; may be repeated. By default "
            "LLM4CDSR_SERVE_HOSTS."
        ),
    ] = None,
    new_items: Annotated[
        Path | None,
        typer.Option(
            help="File of items newer than the model; their texts are embedded if needed.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    provider: Annotated[
        Provider | None, typer.Option(help="LLM provider for embeddings of new items.")
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            help="Folder with the files named in the items' column image; "
            "LLM4CDSR_SERVE_IMAGES by default."
        ),
    ] = None,
    image_host: Annotated[
        list[str] | None,
        typer.Option(
            help="Host from which browsers may load item images over https; may be repeated. "
            "LLM4CDSR_SERVE_IMAGE_HOSTS by default."
        ),
    ] = None,
) -> None:
    """Serve recommendations over HTTP, with a web page, until Ctrl-C.

    Switches to a newly promoted release without a restart. If LLM4CDSR_SERVE_TOKEN is set, all
    routes but the page, /docs and /health need it as a bearer token; without it there is no
    authentication, so set it before other machines can reach the service.
    """
    import uvicorn

    from flows.cli.options.new_items_options import new_items_adder
    from tasks.serving.app import create_app, newer_release_of
    from tasks.serving.limits import Limits
    from tasks.serving.recommender import Recommender
    from tasks.serving.service.gate import (
        TOKEN_VARIABLE,
        hosts_of_environment,
        token_of_environment,
    )
    from tasks.serving.service.http_server import server_config
    from tasks.serving.service.item_images import ItemImages
    from tasks.system.host_names import is_this_machine

    terminal.show_logs(verbose=False)
    token = token_of_environment()
    shown_images = ItemImages.of_environment(images, image_host)
    opened = opened_store(store)
    add_new = new_items_adder(opened, new_items, provider)
    recommender = Recommender.load(opened, release)
    add_new(recommender)
    app = create_app(
        recommender,
        Limits(max_history=max_history, max_k=max_k),
        newer_release_of(opened, add_new) if release == LATEST else None,
        follow_seconds,
        hosts_of_environment() if allowed_host is None else [name.lower() for name in allowed_host],
        token,
        shown_images,
    )
    with socket.create_server((host, port)) as listening:
        name = "localhost" if host == "127.0.0.1" else host
        terminal.say(
            f"Serving release {recommender.facts.ref.fingerprint} at "
            f"http://{name}:{listening.getsockname()[1]}/ (Ctrl-C ends it)"
        )
        if token is None and not is_this_machine(host):
            terminal.err.print(
                f"No {TOKEN_VARIABLE} is set: every client that reaches this address can read "
                "histories and profiles."
            )
        uvicorn.Server(server_config(app)).run(sockets=[listening])
