"""The live page of a gateway: pictures, figures, metrics and health over HTTP, for this machine or with a token."""
