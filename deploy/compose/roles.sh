#!/bin/sh
# Run once by the image of PostgreSQL, on an empty volume: the role that serves requests, which owns no table.
set -eu
psql -v ON_ERROR_STOP=1 -v password="$APP_PASSWORD" -U "$POSTGRES_USER" -d "$POSTGRES_DB" <<'SQL'
CREATE ROLE apperate_app LOGIN PASSWORD :'password';
SQL
