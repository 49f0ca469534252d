"""Worlds of real text: the user's own questions and answers, edits and documents, read by a model's tokenizer."""
