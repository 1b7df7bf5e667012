"""The gateway's file: YAML with positions, a schema made from the settings, and what is wrong told by line and key."""
