"""Many runs under one command: which of them share stages, how they are carried out, and what came of them."""
