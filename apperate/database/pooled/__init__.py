"""Django's PostgreSQL backend with a pool that hands out no dead connection: an ENGINE of the settings."""
