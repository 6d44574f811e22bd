"""Manifests, mixtures, audits, and the batches made from them."""
