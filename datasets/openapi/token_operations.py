"""TOKEN_OPERATIONS: the Tokens API, as described in the OpenAPI documents. Pure."""

from dataclasses import replace
from typing import Any

from datasets.openapi.operation import ANY, SECRET, Operation
from datasets.openapi.schemas import PAGED, array, ref

JSON = "application/json"
TOKENS = "Tokens"
TOKEN: dict[str, Any] = {JSON: ref("Token")}
MISSING = ("not-found",)
FOLLOWED = ("Apperate-Unconfirmed-Workers",)

AT_ONCE = Operation(
    "POST", "/tokens/{tokenId}/apply-now", "applyTokenNow", "Put what is pending in force", TOKENS, SECRET,
    TOKEN,
    "Takes effect before it is answered.", body={JSON: ref("Nothing")}, body_required=False,
    headers=FOLLOWED, more_codes=MISSING,
)  # fmt: skip
TOKEN_OPERATIONS = (
    Operation(
        "GET", "/token", "readOwnToken", "Who am I", TOKENS, ANY, {JSON: ref("OwnToken")},
        "Settings in force and pending, limit, what is used and left.", is_read=True,
    ),
    Operation(
        "GET", "/tokens", "listTokens", "List tokens", TOKENS, SECRET, {JSON: array(ref("Token"))},
        "Oldest first.", parameters="tokens", headers=PAGED, is_read=True,
    ),
    Operation(
        "POST", "/tokens", "createToken", "Create a publishable token", TOKENS, SECRET, TOKEN,
        "Its settings take effect after the activation delay. `importValue` is an old value to go on with.",
        body={JSON: ref("NewToken")}, body_required=False, more_codes=("plan-required",),
    ),
    Operation(
        "GET", "/tokens/{tokenId}", "readToken", "One token", TOKENS, SECRET, TOKEN, more_codes=MISSING,
        is_read=True,
    ),
    Operation(
        "PATCH", "/tokens/{tokenId}", "editToken", "Change a token", TOKENS, SECRET, TOKEN,
        "Settings are merged field by field and take effect after the activation delay; the rest at once.",
        body={JSON: ref("TokenChanges")}, headers=FOLLOWED, more_codes=(*MISSING, "plan-required"),
    ),
    Operation(
        "DELETE", "/tokens/{tokenId}", "deleteToken", "Delete a token", TOKENS, SECRET,
        {JSON: ref("Success")}, "To the trash, from where it comes back for 30 days.",
        headers=FOLLOWED, more_codes=MISSING,
    ),
    AT_ONCE,
    replace(AT_ONCE, path="/tokens/{tokenId}/undo", name="undoTokenChange", summary="Drop what is pending"),
    replace(AT_ONCE, path="/tokens/{tokenId}/disable", name="disableToken", summary="Disable a token"),
    replace(AT_ONCE, path="/tokens/{tokenId}/enable", name="enableToken", summary="Enable a token"),
    replace(
        AT_ONCE, path="/tokens/{tokenId}/restore", name="restoreToken",
        summary="Take a token out of the trash", more_codes=(*MISSING, "plan-required"),
    ),
    replace(
        AT_ONCE, path="/tokens/{tokenId}/duplicate", name="duplicateToken", summary="Duplicate a token",
        description="Answers with the copy, which has the last saved settings and a value of its own.",
        more_codes=(*MISSING, "plan-required"),
    ),
    replace(
        AT_ONCE, path="/tokens/{tokenId}/rotate", name="rotateToken", summary="Give a token a new value",
        description="The answer holds the new value whole, this once. The old one works for overlapSeconds.",
        answer={JSON: ref("RotatedToken")}, body={JSON: ref("Rotation")},
    ),
    Operation(
        "POST", "/tokens/{tokenId}/test", "testToken", "Which check stops a request", TOKENS, SECRET,
        {JSON: ref("TokenTest")},
        "The request is described, not sent; nothing is charged or counted against the token that is tested.",
        body={JSON: ref("TokenTestRequest")}, more_codes=MISSING, is_repeatable=False,
    ),
    Operation(
        "GET", "/tokens/{tokenId}/refusals", "readTokenRefusals", "The last refusals of a token", TOKENS,
        SECRET, {JSON: array(ref("TokenRefusal"))},
        "By code, dataset and site, newest first; kept for 30 days.",
        more_codes=MISSING, is_read=True,
    ),
    Operation(
        "GET", "/tokens/{tokenId}/usage", "readTokenUsage", "What a token did", TOKENS, SECRET,
        {JSON: ref("TokenUsage")}, "By UTC day; 30 days unless said.", parameters="usage", more_codes=MISSING,
        is_read=True,
    ),
)  # fmt: skip
