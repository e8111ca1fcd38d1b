"""CountTokens: how many tokens a request is for the tokenizer of the weights that would answer it.

AWS counts for some of its Claude models only; here every text model counts, since every one has its tokenizer at hand.
"""

from collections.abc import Mapping
from typing import Any, Final

from outcrop.api.call import Call
from outcrop.api.conversation import understood
from outcrop.api.invocation import resolve, terms
from outcrop.errors import ValidationException
from outcrop.serve.dialects.families import family
from outcrop.serve.dialects.family import read

UNSUPPORTED: Final = "The provided model doesn't support counting tokens."


def count_tokens(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """The tokens of an InvokeModel body or of a conversation; no model runs, and no model units are used."""
    invoked = resolve(call, params["modelId"])
    if "TEXT" not in invoked.row.output_modalities:
        raise ValidationException(UNSUPPORTED)
    asked = params["input"]
    if "invokeModel" in asked:
        prompt = read(family(invoked.row.body), asked["invokeModel"]["body"], terms(call, invoked)).prompt
    else:
        prompt = understood(invoked, asked["converse"], terms(call, invoked)).prompt
    with call.rooms.fleet.seated(invoked.target, call.region) as (line, model):
        return {"inputTokens": line.count(model, prompt)}
