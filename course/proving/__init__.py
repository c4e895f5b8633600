"""Proofs of the labs: as handed out, wrong answers against checks, stored outputs."""
