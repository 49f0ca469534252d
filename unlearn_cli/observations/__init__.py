"""What is taken from one model besides its answers to the probes: token scores, hidden states, attacks on a copy.

An observation is a stage of its own, so that base and gold are observed once for a whole grid of methods.
"""
