"""`facerelay bandwidth`: what a user's own video costs on the network, in the seed's tables."""
