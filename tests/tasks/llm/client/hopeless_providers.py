"""Imitations of providers with an error that only their user can end.

Messages are those that their users have reported.
"""

from tests.imitated_providers import Case
from tests.imitated_servers import (
    EMBEDDINGS,
    Imitation,
    Reply,
    always,
    completion,
    error,
    page,
    refuses,
)

HOPELESS = {
    "no credit (402)": Case(
        Imitation(
            "402", (always(error(402, "Insufficient Balance", code="invalid_request_error")),)
        )
    ),
    "no credit (429)": Case(
        Imitation(
            "quota",
            (
                always(
                    error(
                        429,
                        "You exceeded your current quota, please check your plan and billing "
                        "details.",
                        type="insufficient_quota",
                        code="insufficient_quota",
                    )
                ),
            ),
        )
    ),
    "wrong key (401)": Case(
        Imitation(
            "401", (always(error(401, "Incorrect API key provided", code="invalid_api_key")),)
        )
    ),
    "forbidden (403)": Case(Imitation("403", (always(error(403, "Country not supported")),))),
    "wrong model (404)": Case(
        Imitation(
            "404", (always(error(404, "The model `m` does not exist", code="model_not_found")),)
        )
    ),
    "wrong model (400)": Case(
        Imitation("400", (always(error(400, "Invalid model name passed in model=m")),))
    ),
    "a web page": Case(Imitation("html", (always(page()),))),
    "another route (405)": Case(
        Imitation("405", (always(Reply(405, {"detail": "Method Not Allowed"})),))
    ),
    "an error with status 200": Case(
        Imitation(
            "200",
            (
                always(
                    Reply(
                        200,
                        {
                            "error": {
                                "message": "Provider returned error: rate limited upstream",
                                "code": 429,
                            },
                            "user_id": "x",
                        },
                    )
                ),
            ),
        )
    ),
    "an error without a code, status 200": Case(
        Imitation("200", (always(Reply(200, {"error": "upstream failed"})),))
    ),
    "429 all day": Case(Imitation("429", (always(error(429, "Rate limit reached")),))),
    "429 all day, Retry-After 1": Case(
        Imitation("429", (always(Reply(429, {"message": "slow down"}, {"retry-after": "1"})),))
    ),
    "500 always": Case(Imitation("500", (always(error(500, "The server had an error")),))),
    "503 always": Case(
        Imitation("503", (always(Reply(503, b"upstream down", content_type="text/plain")),))
    ),
    "a field that must be sent": Case(
        Imitation(
            "missing",
            (
                always(
                    error(
                        400,
                        "parameter.enable_thinking must be set to false for non-streaming calls",
                    )
                ),
            ),
        )
    ),
    "a configured field refused": Case(
        Imitation(
            "configured",
            (
                refuses("top_k", error(400, "Unrecognized request argument supplied: top_k")),
                refuses("top_k", error(400, "Unrecognized request argument: top_k"), EMBEDDINGS),
            ),
        ),
        chat_parameters={"top_k": 3},
        embed_parameters={"top_k": 3},
    ),
    "all moderated (400)": Case(
        Imitation("filter", (always(error(400, "content policy", code="content_filter")),))
    ),
    "all too long": Case(
        Imitation(
            "long",
            (
                always(
                    error(
                        400,
                        "This model's maximum context length is 16 tokens",
                        code="context_length_exceeded",
                    )
                ),
            ),
        )
    ),
    "nothing but reasoning": Case(
        Imitation(
            "cut",
            (always(Reply(200, {"data": []}), EMBEDDINGS),),
            chat=completion("<think>\nOkay, so I need to", finish="length"),
        )
    ),
    "empty answers": Case(
        Imitation(
            "empty",
            chat=completion(""),
            embeddings=lambda call: {"data": [{"index": 0, "embedding": []}] * len(call.texts)},
        )
    ),
    "no JSON": Case(Imitation("text", (always(Reply(200, b"OK", content_type="text/plain")),))),
    "another server": Case(
        Imitation("moved", (always(Reply(302, b"", {"location": "http://127.0.0.1:9/v1"})),))
    ),
}
