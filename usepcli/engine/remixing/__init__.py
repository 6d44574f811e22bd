"""From sources to mixtures: gains, pans and automation, and shuffled sets."""
