"""From the taken crop to the acknowledged blob: the spool on disk and what empties it."""
