"""Which faces of the frames are worth sending: tracks, best shots, crops."""
