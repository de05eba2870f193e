"""The migrations that every installation may already have: the last one of each app in the last release.

    is_released(app, name) -> bool

They stay as they are. A newer one is held to the rules of migrations beside running servers: `make check`
reads its SQL, and `manage.py migrate` limits its time. See docs/decisions/0024-upgrade-without-stopping.md.
"""

LAST = {
    "account": "0009_emailaddress_unique_primary_email",
    "accounts": "0008_audit_chain",
    "admin": "0003_logentry_add_action_flag_choices",
    "auth": "0012_alter_user_first_name_max_length",
    "contenttypes": "0002_remove_content_type_name",
    "datasets": "0006_storage_counters",
    "mfa": "0003_authenticator_type_uniq",
    "procrastinate": "0041_post_retry_failed_job",
    "sessions": "0001_initial",
    "tokens": "0008_token_refusals",
    "usersessions": "0001_initial",
}


def is_released(app: str, name: str) -> bool:
    return app in LAST and name.split("_")[0] <= LAST[app].split("_")[0]
