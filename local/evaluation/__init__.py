"""How well the product does on somebody's own photographs: `facerelay evaluate`."""
