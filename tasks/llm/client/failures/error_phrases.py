"""Phrases in servers' error messages, in lower case: codes, then sentences."""

import re


def _any(*phrases: str) -> re.Pattern[str]:
    return re.compile("|".join(phrases))


CREDIT = _any(
    r"insufficient[_ ](?:user[_ ])?(?:quota|balance|credits?|funds)",
    r"credit balance is too low",
    r"exceeded_current_quota",
    r"billing_not_active",
    r"billing_hard_limit",
    r"arrearage",
    r"payment required",
    r"out of credits?\b",
    r"requires more credits",
    r"budget[_ ](?:has been )?exceeded",
    r"account.{0,40}suspended",
    r"余额不足",
    r"欠费",
)
FIELD_BY_CODE = _any(r"unsupported_(?:parameter|value)", r"unknown_parameter", r"extra_forbidden")
TOO_LARGE_FOR_RATE = _any(r"request too large")
REFUSED = _any(
    r"unsupported",
    r"unrecogni[sz]ed",
    r"unknown",
    r"unexpected",
    r"extra (?:inputs|fields)",
    r"invalid",
    r"deprecated",
    r"not (?:be )?(?:supported|permitted|allowed|accepted|recogni[sz]ed|implemented|available)",
    r"not (?:be )?(?:enabled|valid)",
    r"(?:does|do|did)(?:n't| not) (?:support|accept|allow|recogni[sz]e)",
    r"must be",
    r"should be",
    r"only .{0,60}(?:allowed|supported|accepted|default)",
    r"no such (?:field|param)",
)
NO_SYSTEM_ROLE = _any(
    r"\bsystem\W{0,3} ?(?:role|messages?|prompts?|instructions?)?\b.{0,60}"
    r"(?:not (?:be )?(?:supported|allowed|permitted|enabled|accepted)|unsupported)",
    r"(?:unsupported|invalid|unknown|not support|n't support)\w*.{0,60}\bsystem\b",
    r"only user and assistant",
    r"roles must alternate",
    r"developer instruction",
)
TEXT_INPUT = _any(
    r"\binput\b.{0,60}(?:must be|should be|expected|requires?|is not of type)\W{0,8}(?:an? )?"
    r"(?:valid )?(?:string|str|text)\b(?!s| or| array)",
    r"\binput\b.{0,20}\bstr(?:ing)? type expected",
    r"(?:expected|needs?) (?:an? )?string.{0,40}input",
)
TOO_LONG = _any(
    r"context[_ ](?:length|window|size)",
    r"exceed_context",
    r"maximum context",
    r"maximum .{0,20}tokens",
    r"max(?:imum)? (?:input|sequence|model) length",
    r"must have less than \d+ tokens",
    r"too many (?:input |prompt )?tokens",
    r"\bn_ctx\b",
    r"tokens? (?:count )?(?:\(\d+\) )?exceeds?\b",
    r"(?:input|prompt|text|sequence)s?\b.{0,20}\bexceeds?\b.{0,20}\blength\b",
    r"token limit",
    r"tokens.{0,40}must be <=",
    r"too large to process",
    r"(?:input|prompt|text|sequence)s?\b(?:(?!array|list|batch).){0,30}\btoo (?:long|big)",
    r"longer than the max",
    r"range of input length",
    r"reduce (?:the|your) (?:length|prompt|input)",
)
BATCH = _any(
    r"batch",
    r"too many (?:inputs|texts|items|documents)",
    r"array (?:length|too long)",
    r"list (?:is )?too long",
    r"too_long",
    r"number of (?:inputs|texts|items|documents)",
    r"at most \d+",
    r"no more than \d+",
    r"than \d+ (?:inputs|texts|items)",
    r"(?:max|limit)\w* (?:is |of )?\d+",
    r"数组",
)
KEY = _any(
    r"(?:invalid|incorrect|missing|wrong|no|expired)\W{0,3}api[ _-]?key",
    r"api[ _-]?key\W.{0,30}(?:invalid|not valid|missing|required|expired)",
    r"unauthori[sz]ed",
    r"(?:token|key|credential)s?\b.{0,60}\bexpired",
    r"expired_?token",
)
MODEL = _any(
    r"model_not_found",
    r"invalid[_ ]model",
    r"unknown model",
    r"no models? loaded",
    r"does not work with the specified model",
    r"no such model",
    r"model not (?:found|exist)",
    r"not a valid model",
    r"\bmodel\b.{0,80}(?:does not exist|doesn't exist|not found|is not available|is not loaded)",
    r"\bmodel\b.{0,80}does not support (?:chat|embed|generat)",
)
ROUTE = _any(
    r"\broute\b",
    r"unknown (?:url|path|endpoint)",
    r"invalid url",
    r"resource not found",
    r"cannot post",
    r"unexpected endpoint",
    r"page not found",
    r"method not allowed",
    r"endpoint .{0,30}not",
    r"^not found$",
)
MODERATED = _any(r"moderat", r"flagged", r"content[ _](?:policy|filter)", r"safety", r"harmful")
RATE = _any(
    r"rate[ _-]?limit",
    r"too many requests",
    r"overloaded",
    r"try again",
    r"temporarily",
    r"throttl",
    r"capacity",
)
