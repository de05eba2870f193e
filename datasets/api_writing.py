"""The API that changes records one request at a time: writing JSON, deleting by key."""

from django.conf import settings

from apperate.data_plane import in_thread
from apperate.refusals import Refusal
from datasets import parameters, writing
from datasets.api import pairs, said
from datasets.gate import Answer, Call, data_endpoint
from tokens.permissions import Action


@data_endpoint(Action.WRITE)
async def write_records(call: Call) -> Answer | Refusal:
    """POST /v1/record/WS/ID: a JSON object or array of objects, all stored or none."""
    body = await call.request.read_body(bytes_max=settings.RECORD_BODY_BYTES_MAX)
    if isinstance(body, Refusal):
        return body
    values = parameters.values(pairs(call.request.GET), "write")
    if isinstance(values, Refusal):
        return values
    count = await in_thread(writing.write_records)(
        dataset_id=call.metadata.id, body=body, replaces=writing.replaces_duplicates(values), now=call.now
    )
    if isinstance(count, Refusal):
        return count
    return said({"success": True, "message": f"wrote {count} messages"}, records=count, is_free=True)


@data_endpoint(Action.DELETE)
async def delete_data(
    call: Call, key: str | None = None, subkey: str | None = None, date: str | None = None
) -> Answer | Refusal:
    """DELETE /v1/data/WS/ID/KEY[/SUBKEY[/DATE]]: to the trash, from where they come back for 24 h."""
    selection = writing.parse_selection(pairs(call.request.GET), key=key, subkey=subkey, date=date)
    if isinstance(selection, Refusal):
        return selection
    count = await in_thread(writing.delete_records)(
        dataset_id=call.metadata.id, selection=selection, token_id=call.token.token_id, now=call.now
    )
    if isinstance(count, Refusal):
        return count
    return said({"success": True, "message": f"deleted {count} records"}, records=count, is_free=True)
