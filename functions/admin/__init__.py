"""Admin: tokens, the audit record, and the gateways' way to upload. Its routes are below `/api/v1`, whose trigger
`functions/query` has."""
