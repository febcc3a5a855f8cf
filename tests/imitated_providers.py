"""The providers and servers that docs/providers.md names.

Messages are those that their users have reported.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from artifacts.ledger.answers import Role
from tests.imitated_servers import (
    EMBEDDINGS,
    WORDS,
    Call,
    Form,
    Imitation,
    Reply,
    at_most,
    completion,
    error,
    every,
    no_system,
    refuses,
    vectors,
    wants_header,
    wants_query,
)


@dataclass(frozen=True)
class Case:
    """An imitation, and what its user sets."""

    imitation: Imitation
    query: str = ""
    chat_parameters: Mapping[str, Any] = field(default_factory=dict)
    embed_parameters: Mapping[str, Any] = field(default_factory=dict)
    batch_size: int = 64
    key: str = "key-of-the-test"

    def parameters(self, role: Role) -> Mapping[str, Any]:
        return self.chat_parameters if role is Role.CHAT else self.embed_parameters


def unsupported(name: str, words: str, code: str = "unsupported_parameter") -> Reply:
    return error(400, words, param=name, code=code)


NO_MAX_TOKENS = unsupported(
    "max_tokens",
    "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
    "'max_completion_tokens' instead.",
)
NO_TEMPERATURE = unsupported(
    "temperature",
    "Unsupported value: 'temperature' does not support 0.2 with this model. Only the default (1) "
    "value is supported.",
    "unsupported_value",
)
NO_SYSTEM = unsupported(
    "messages[0].role",
    "Unsupported value: 'messages[0].role' does not support 'system' with this model.",
    "unsupported_value",
)


def litellm(name: str) -> Reply:
    return error(
        400,
        "litellm.UnsupportedParamsError: gpt-5 models don't support these params: "
        f"{name}=0.2. To drop these, set `litellm.drop_params=True`",
        type="None",
        code="400",
    )


def _dashscope_batch(call: Call) -> Reply | None:
    if call.route != EMBEDDINGS or len(call.texts) <= 10:
        return None
    words = "<400> InternalError.Algo.InvalidParameter: Value error, batch size is invalid, it "
    return error(
        400, words + "should not be larger than 10.: input.contents", code="InvalidParameter"
    )


def _magistral() -> Form:
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "Okay, the user wants"}]}
    return completion([thought, {"type": "text", "text": WORDS}])


GEMINI_BATCH = "* BatchEmbedContentsRequest.requests: at most 100 requests can be in one batch\n"
HARMONY = (
    "<|channel|>analysis<|message|>The user wants one sentence.<|end|><|start|>assistant"
    f"<|channel|>final<|message|>{WORDS}<|return|>"
)

HEALTHY = {
    "OpenAI, gpt-4o": Case(Imitation("OpenAI")),
    "OpenAI, gpt-5": Case(
        Imitation(
            "OpenAI", (refuses("max_tokens", NO_MAX_TOKENS), refuses("temperature", NO_TEMPERATURE))
        )
    ),
    "OpenAI, o1": Case(
        Imitation("OpenAI", (refuses("max_tokens", NO_MAX_TOKENS), no_system(NO_SYSTEM)))
    ),
    "Azure": Case(
        Imitation(
            "Azure",
            (
                wants_query(
                    "api-version",
                    Reply(404, {"error": {"code": "404", "message": "Resource not found"}}),
                ),
                wants_header(
                    "api-key",
                    "key-of-the-test",
                    Reply(401, {"statusCode": 401, "message": "Access denied due to invalid key"}),
                ),
            ),
            path="/openai/deployments/d",
        ),
        query="?api-version=2024-10-21",
    ),
    "vLLM": Case(
        Imitation(
            "vLLM",
            chat=completion(
                usage={"prompt_tokens": 10, "completion_tokens": 9, "prompt_tokens_details": None}
            ),
        )
    ),
    "vLLM, Gemma": Case(
        Imitation(
            "vLLM",
            (
                no_system(
                    Reply(
                        400,
                        {
                            "object": "error",
                            "message": "System role not supported",
                            "type": "BadRequestError",
                            "param": None,
                            "code": 400,
                        },
                    )
                ),
            ),
        )
    ),
    "vLLM, Qwen 3 without a reasoning parser": Case(
        Imitation("vLLM", chat=completion(f"<think>\nOkay, the user wants\n</think>\n\n{WORDS}"))
    ),
    "vLLM, DeepSeek R1": Case(Imitation("vLLM", chat=completion(f"Okay, so\n</think>\n{WORDS}"))),
    "vLLM, gpt-oss": Case(Imitation("vLLM", chat=completion(HARMONY))),
    "Ollama": Case(Imitation("Ollama", embeddings=vectors(is_list=True))),
    "llama.cpp": Case(
        Imitation(
            "llama.cpp",
            (
                refuses(
                    "encoding_format",
                    Reply(
                        400,
                        {
                            "error": {
                                "code": 400,
                                "message": "encoding_format base64 is not supported",
                                "type": "invalid_request_error",
                            }
                        },
                    ),
                    EMBEDDINGS,
                ),
            ),
            chat=completion(reasoning_content="Okay, the user wants"),
        )
    ),
    "TEI": Case(
        Imitation(
            "TEI",
            (
                at_most(
                    32,
                    Reply(
                        413,
                        {
                            "message": "batch size 64 > maximum allowed batch size 32",
                            "code": 413,
                            "type": "Validation",
                        },
                    ),
                ),
            ),
        )
    ),
    "LiteLLM": Case(
        Imitation("LiteLLM", (refuses("temperature", litellm("temperature")),), path="")
    ),
    "OpenRouter": Case(
        Imitation(
            "OpenRouter",
            (
                every(
                    40,
                    Reply(
                        200,
                        {
                            "id": "gen-1",
                            "choices": [
                                {
                                    "index": 0,
                                    "error": {"code": 502, "message": "Provider returned error"},
                                    "finish_reason": "error",
                                    "message": {"role": "assistant", "content": ""},
                                }
                            ],
                        },
                    ),
                ),
            ),
            chat=completion(reasoning="hm", usage={"prompt_tokens": 10.5, "cost": 0.001}),
            path="/api/v1",
        )
    ),
    "DashScope": Case(
        Imitation("DashScope", (_dashscope_batch,), path="/compatible-mode/v1"),
        chat_parameters={"enable_thinking": False},
        batch_size=10,
    ),
    "DashScope, nothing set": Case(
        Imitation("DashScope", (_dashscope_batch,), path="/compatible-mode/v1")
    ),
    "DeepSeek": Case(
        Imitation("DeepSeek", chat=completion(reasoning_content="Okay, the user wants"))
    ),
    "Mistral, Magistral": Case(Imitation("Mistral", chat=_magistral())),
    "Gemini": Case(
        Imitation(
            "Gemini",
            (
                at_most(
                    100,
                    Reply(
                        400,
                        [
                            {
                                "error": {
                                    "code": 400,
                                    "message": GEMINI_BATCH,
                                    "status": "INVALID_ARGUMENT",
                                }
                            }
                        ],
                    ),
                ),
            ),
            path="/v1beta/openai",
            embeddings=vectors(None, is_list=True),
        ),
        batch_size=128,
    ),
    "vectors without index": Case(Imitation("noindex", embeddings=vectors(None, usage={}))),
    "vectors all with index 0": Case(Imitation("index0", embeddings=vectors(lambda number: 0))),
}
