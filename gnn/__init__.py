"""Relation vectors R_s over the heterograph: closed-form walks and learned relation-aware layers."""
